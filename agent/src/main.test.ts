import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { whole } from './fixture-machine.ts'
import { type FixtureMarket, newId, startMarket } from './fixture-market.ts'

const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
const program = fileURLToPath(new URL('main.ts', import.meta.url))
const processes: { child: ChildProcess; exitCode: Promise<number | null> }[] = []
let dataPath = ''
let market: FixtureMarket
beforeAll(async () => {
  dataPath = await mkdtemp(join(tmpdir(), 'orbyte-main-'))
})
beforeEach(async () => {
  market = await startMarket()
})
afterEach(async () => {
  for (const { child, exitCode } of processes.splice(0)) {
    child.kill('SIGKILL')
    await exitCode
  }
  await market.close()
})
afterAll(() => rm(dataPath, { recursive: true }))

test('an agent process runs an attempt, obeys its owner, and ends cleanly on SIGTERM', async () => {
  const agent = startProcess()
  const { devices } = await market.next('hello')
  expect(devices).toMatchObject([{ model: 'RTX 4090', kind: 'emulated', name: 'bench', price_per_hour: 500_000 }])
  offer(devices[0]!.uuid, { sleep_ms: 60_000 })
  await market.next('attempt.ready')

  const status = await run('status', '--json', '--data', dataPath)
  expect(JSON.parse(status.stdout)).toMatchObject({ connected: true, devices: [{ status: 'running' }] })
  const reclaimed = await run('reclaim', '0', '--data', dataPath)
  expect(reclaimed.stdout).toContain('reclaimed, takes no tasks until: orbyte agent resume')
  expect(await market.next('attempt.result')).toMatchObject({ code: 'reclaimed', fault: 'provider' })
  await run('resume', '--data', dataPath)

  offer(devices[0]!.uuid, { sleep_ms: 300, output: 'to its end' })
  await market.next('attempt.ready')
  agent.child.kill('SIGTERM')
  expect(await market.next('attempt.result')).toMatchObject({ outcome: 'completed' })
  expect(await agent.exitCode).toBe(0)
  expect((await run('status', '--data', dataPath)).stderr).toContain('Start one: orbyte agent start')
  const failed = await run('drain', '--json', '--data', dataPath)
  expect(JSON.parse(failed.stderr)).toMatchObject({ detail: expect.stringContaining('No agent runs'), exit_code: 1 })
})

test('a GPU on which nothing computes is offered without text, and its owner is told why and what to install', async () => {
  const tools = await mkdtemp(join(dataPath, 'tools-'))
  const recorded = fileURLToPath(new URL('gpus/recorded/nvidia-h100.csv', import.meta.url))
  const nvidiaSmi = `#!/bin/sh\ncase "$1" in --query-gpu=*) cat "${recorded}" ;; esac\n`
  await writeFile(join(tools, 'nvidia-smi'), nvidiaSmi, { mode: 0o755 })
  const environment = { PATH: `${tools}:${process.env['PATH']}` }
  const flags = ['--server', market.url, '--token', 'secret', '--data', tools]
  launch(['start', ...flags, '--sharing'], environment)
  const { devices } = await market.next('hello')
  expect(devices).toMatchObject([
    { model: 'NVIDIA H100 80GB HBM3', vram_mib: 81_559, usable_vram_mib: 81_079, shares: { task_types: [] } },
  ])
  expect(devices[0]!.task_types).toContain('embedding')
  expect(devices[0]!.task_types).not.toContain('text_generation')

  const status = await run('status', '--data', tools)
  expect(status.stdout).toContain('NVIDIA H100 80GB HBM3 (79.6 GiB, 79.1 of it for tasks, ')
  expect(status.stdout).toContain('! NVIDIA H100 80GB HBM3: llama does not compute on it; not by CUDA: ')
  const doctor = launch(['doctor', ...flags], environment)
  expect(await doctor.exitCode).toBe(1)
  expect(doctor.stdout()).toMatch(
    /problem {2}NVIDIA H100 80GB HBM3: llama does not compute on it; not by CUDA: .*; not by Vulkan: /,
  )
  expect(doctor.stdout()).toMatch(/→ for CUDA: Install .*; for Vulkan: Install /)
})

test('a data folder has one agent, and a killed one leaves it free', async () => {
  const first = startProcess()
  const { devices } = await market.next('hello')
  offer(devices[0]!.uuid, { sleep_ms: 60_000 })
  await market.next('attempt.ready')
  const second = startProcess()
  expect(await second.exitCode).toBe(1)
  expect(second.stderr()).toContain(`Another agent (process ${first.child.pid}) uses ${dataPath}`)

  first.child.kill('SIGKILL')
  await first.exitCode
  const third = startProcess()
  const hello = await market.next('hello')
  expect(hello.devices).toMatchObject([{ uuid: devices[0]!.uuid }])
  expect(await market.next('attempt.result')).toMatchObject({ code: 'agent_restarted', fault: 'provider' })
  third.child.kill('SIGINT')
  expect(await third.exitCode).toBe(0)
})

test('the lock of a process whose number is another’s now holds nobody up', async () => {
  await writeFile(join(dataPath, 'agent.lock'), `${process.pid} of-another-boot/1\n`)
  const agent = startProcess()
  await market.next('hello')
  expect(await readFile(join(dataPath, 'agent.lock'), 'utf8')).toMatch(new RegExp(`^${agent.child.pid} `))
  agent.child.kill('SIGTERM')
  expect(await agent.exitCode).toBe(0)
})

test('a refused agent says why and ends with a code of its own', async () => {
  market.onHello = () => {
    market.send({ type: 'refused', code: 'not_enrolled', message: 'It needs a token.', retry: false })
    return 'silence'
  }
  const agent = startProcess()
  expect(await agent.exitCode).toBe(3)
  expect(agent.stderr()).toContain('The market does not accept this agent: It needs a token. (not_enrolled)')
})

test.each([
  [['start', '--price', 'cheap'], 2, '--price'],
  [['dance'], 2, 'There is no command "dance"'],
  [['drain', '0', '1'], 2, 'more than one GPU'],
])('%j is refused', async (args, exitCode, hint) => {
  const refused = await run(...args)
  expect(refused.exitCode).toBe(exitCode)
  expect(refused.stderr).toContain(hint)
})

test('the service file starts this program, without the token', async () => {
  const { stdout, exitCode } = await run('service', '--token', 'top-secret', '--cpu', '--data', dataPath)
  expect(exitCode).toBe(0)
  expect(stdout).toContain(program)
  expect(stdout).toContain('--cpu')
  expect(stdout).not.toContain('top-secret')
})

test('help shows the commands and the flags', async () => {
  const { stdout, exitCode } = await run('--help')
  expect(exitCode).toBe(0)
  expect(stdout).toContain('reclaim [GPU]')
  expect(stdout).toContain('--emulate')
})

function startProcess() {
  const flags = ['--server', market.url, '--token', 'secret', '--data', dataPath, '--name', 'bench', '--price', '0.5']
  return launch(['start', ...flags, '--emulate', 'RTX 4090:24', '--allow-fake'])
}

async function run(...args: string[]) {
  const command = launch(args)
  const exitCode = await command.exitCode
  return { exitCode, stdout: command.stdout(), stderr: command.stderr() }
}

function launch(args: string[], environment: Record<string, string> = {}) {
  const child = spawn(process.execPath, ['--import', tsx, program, ...args], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const printed = { stdout: '', stderr: '' }
  child.stdout.on('data', (data) => (printed.stdout += String(data)))
  child.stderr.on('data', (data) => (printed.stderr += String(data)))
  const exitCode = once(child, 'close').then(([code]) => code as number | null)
  processes.push({ child, exitCode })
  return { child, exitCode, stdout: () => printed.stdout, stderr: () => printed.stderr }
}

function offer(uuid: string, input: Record<string, unknown>): void {
  market.send({
    type: 'attempt.start',
    attempt_id: newId('attempt'),
    task_id: newId('task'),
    fencing_token: 'token-1',
    devices: whole(uuid),
    task_type: 'other',
    input,
    model: null,
    duration_ms_max: 600_000,
    deadline_in_ms: 80_000,
    output_bytes_max: 1_000_000,
  } as never)
}
