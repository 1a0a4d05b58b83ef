import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runTask } from '@orbyte/sdk'
import { until } from '../dev/network.ts'
import { freePort, killAll, newUser, startMarket } from './processes.ts'

let folder: string
let npx: ChildProcess | undefined
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-tarball-'))
})
afterEach(async () => {
  // npx starts the agent in a process group of its own, so that both can be ended.
  if (npx?.pid !== undefined && npx.exitCode === null) {
    const ended = once(npx, 'exit')
    process.kill(-npx.pid, 'SIGKILL')
    await ended
  }
  await killAll()
  await rm(folder, { recursive: true, force: true })
})

test('one command in an empty folder installs the agent from the market, with engines of its own, and earns', async () => {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  await startMarket({ folder, port })
  const [provider, renter] = [await newUser(url, 'provider'), await newUser(url, 'renter')]
  const { agent_package: agentPackage } = await provider.health.get()
  expect(agentPackage).toMatch(/^\/downloads\/orbyte-\d+\.\d+\.\d+.*\.tgz$/)
  const { token } = await provider.agentTokens.create({ name: 'one command' })

  const empty = join(folder, 'empty')
  await mkdir(empty)
  const words = [
    '-y',
    `${url}${agentPackage}`,
    'agent',
    'start',
    '--server',
    url,
    '--token',
    token,
    '--cpu',
    '--data',
    join(folder, 'agent'),
  ]
  let said = ''
  npx = spawn('npx', words, {
    cwd: empty,
    detached: true,
    // What npm has fetched already it need not ask the registry for.
    env: { ...process.env, npm_config_prefer_offline: 'true' },
    shell: process.platform === 'win32',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  npx.stdout!.on('data', (data: Buffer) => (said += data))
  npx.stderr!.on('data', (data: Buffer) => (said += data))
  const offered = async () => (await provider.gpus.mine()).items.find(({ status }) => status === 'available')
  await until(async () => npx?.exitCode !== null || (await offered()) !== undefined, 'the agent to connect', 240_000)
  expect(await offered(), said).toMatchObject({ kind: 'cpu' })

  await renter.wallet.deposit({ amount: '1' })
  const task = await runTask(renter, {
    task_type: 'text_generation',
    input_data: { prompt: 'Q: What is a GPU?\nA:', seed: 1 },
  })
  expect(task.status, said).toBe('completed')
  expect(task.output_data?.text).not.toBe('')
  // The engines came from the agent's own install, not from this checkout.
  const engines = JSON.parse(await readFile(join(folder, 'agent/engines/package.json'), 'utf8')) as {
    dependencies: object
  }
  expect(Object.keys(engines.dependencies)).toEqual(expect.arrayContaining(['node-llama-cpp', 'onnxruntime-node']))
}, 300_000)
