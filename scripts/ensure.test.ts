import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isBuilt, isInstalled, repository, stampBuilt, stampInstalled } from './stamps.mjs'

let checkout: string

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'orbyte-ensure-'))
  for (const name of ['ensure.mjs', 'npm.mjs', 'stamps.mjs'])
    cpSync(join(repository, 'scripts', name), join(checkout, 'scripts', name))
  writeFileSync(join(checkout, 'package-lock.json'), '{}')
  stampInstalled(checkout)
})
afterEach(() => rmSync(checkout, { recursive: true }))

function ensure(...commandLine: string[]): ChildProcess {
  // A stand-in for npm that does the last thing that installing does.
  const npm = join(checkout, 'npm-cli.js')
  writeFileSync(npm, `import('./scripts/stamps.mjs').then((stamps) => stamps.stampInstalled())`)
  const env = { ...process.env, npm_execpath: npm }
  return spawn(process.execPath, [join(checkout, 'scripts/ensure.mjs'), ...commandLine], { env, stdio: 'pipe' })
}

async function outcome(child: ChildProcess) {
  const [[code, signal], stdout, stderr] = await Promise.all([
    once(child, 'exit') as Promise<[number | null, string | null]>,
    text(child.stdout!),
    text(child.stderr!),
  ])
  return { code, signal, stdout, stderr }
}

describe('ensure', () => {
  test('says nothing of its own when nothing is to do, and ends with the status of the command', async () => {
    const ended = await outcome(ensure('-e', 'console.log("ran"); process.exit(3)'))
    expect(ended).toEqual({ code: 3, signal: null, stdout: 'ran\n', stderr: '' })
  })

  test('ends by the signal that ended the command', async () => {
    expect(await outcome(ensure('-e', 'process.kill(process.pid, "SIGKILL")'))).toMatchObject({ signal: 'SIGKILL' })
  })

  test.each(['SIGTERM', 'SIGINT'] as const)(
    'passes %s on, and waits for the command to end in order',
    async (signal) => {
      const child = ensure(
        '-e',
        `process.on('${signal}', () => process.exit(7)); setInterval(() => {}, 1e6); console.log('up')`,
      )
      await once(child.stdout!, 'data')
      child.kill(signal)
      expect(await once(child, 'exit')).toEqual([7, null])
    },
  )

  test('installs first when the dependencies are not those of the lock file', async () => {
    writeFileSync(join(checkout, 'package-lock.json'), '{ "packages": {} }')
    const first = await outcome(ensure('-e', 'console.log("ran")'))
    expect(first).toMatchObject({ code: 0, stdout: 'ran\n', stderr: expect.stringContaining('npm ci') })
    expect(await outcome(ensure('-e', 'console.log("ran")'))).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('stamps', () => {
  const write = (path: string, content: string) => {
    mkdirSync(join(checkout, path, '..'), { recursive: true })
    writeFileSync(join(checkout, path), content)
  }

  test('a build is stale as soon as a source has changed, come or gone', () => {
    write('agent/src/agent.ts', 'one')
    expect(isBuilt(checkout)).toBe(false)
    stampBuilt(checkout)
    expect(isBuilt(checkout)).toBe(true)
    write('agent/src/agent.ts', 'two')
    expect(isBuilt(checkout)).toBe(false)
    stampBuilt(checkout)
    write('sdk/src/client.ts', '')
    expect(isBuilt(checkout)).toBe(false)
    rmSync(join(checkout, 'sdk'), { recursive: true })
    expect(isBuilt(checkout)).toBe(true)
  })

  test('a change of a test is no reason to build, and a change of a source none to install', () => {
    write('agent/src/agent.ts', 'one')
    stampBuilt(checkout)
    write('agent/src/agent.test.ts', 'test')
    expect(isBuilt(checkout)).toBe(true)
    expect(isInstalled(checkout)).toBe(true)
  })
})
