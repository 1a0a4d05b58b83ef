import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { detectAccelerator, enginePackages, engineVersions } from './engine-packages.ts'

test('the versions are those that the agent is tested with', async () => {
  const manifest = new URL('../../package.json', import.meta.url)
  const { devDependencies } = JSON.parse(await readFile(manifest, 'utf8')) as { devDependencies: object }
  expect(devDependencies).toMatchObject(engineVersions)
})

test.each([
  [{ platform: 'linux', arch: 'x64', accelerator: 'none' }, ['linux-x64'], true],
  [{ platform: 'linux', arch: 'x64', accelerator: 'vulkan' }, ['linux-x64', 'linux-x64-vulkan'], true],
  [
    { platform: 'linux', arch: 'x64', accelerator: 'cuda' },
    ['linux-x64', 'linux-x64-cuda', 'linux-x64-cuda-ext', 'linux-x64-vulkan'],
    true,
  ],
  [{ platform: 'linux', arch: 'arm64', accelerator: 'cuda' }, ['linux-arm64'], true],
  [{ platform: 'linux', arch: 'arm', accelerator: 'none' }, ['linux-armv7l'], false],
  [{ platform: 'darwin', arch: 'arm64', accelerator: 'none' }, ['mac-arm64-metal'], true],
  [{ platform: 'darwin', arch: 'x64', accelerator: 'none' }, ['mac-x64'], false],
  [
    { platform: 'win32', arch: 'x64', accelerator: 'cuda' },
    ['win-x64', 'win-x64-cuda', 'win-x64-cuda-ext', 'win-x64-vulkan'],
    true,
  ],
] as const)('%j gets what fits and nothing else', (machine, binaries, hasOnnx) => {
  const packages = enginePackages(machine)
  const expected = ['node-llama-cpp', ...binaries.map((name) => `@node-llama-cpp/${name}`)]
  expect(Object.keys(packages).sort()).toEqual([...expected, ...(hasOnnx ? ['onnxruntime-node'] : [])].sort())
})

test('a machine that no engine is made for gets nothing', () => {
  expect(enginePackages({ platform: 'freebsd', arch: 'x64', accelerator: 'none' })).toEqual({})
})

test.each([
  ['linux', { runs: true, exists: [] }, 'cuda'],
  ['linux', { runs: false, exists: ['/dev/dri/renderD128', '/usr/lib64/libvulkan.so.1'] }, 'vulkan'],
  ['linux', { runs: false, exists: ['/usr/lib64/libvulkan.so.1'] }, 'none'],
  ['linux', { runs: false, exists: ['/dev/dri/renderD128'] }, 'none'],
  ['win32', { runs: false, exists: ['C:\\Windows\\System32\\vulkan-1.dll'] }, 'vulkan'],
  ['darwin', { runs: true, exists: [] }, 'none'],
])('on %s, %j means %s', async (platform, { runs, exists }, accelerator) => {
  const probe = { runs: async () => runs, exists: (path: string) => exists.includes(path) }
  expect(await detectAccelerator(platform, probe)).toBe(accelerator)
})
