import { mkdir, readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Agent } from './agent.ts'
import { noLimits } from './agent-config.ts'
import { createFakeExecutor } from './executors/fake-executor.ts'
import { createMachine, type FixtureMachine, whole } from './fixture-machine.ts'
import { newId } from './fixture-market.ts'
import { askAgent, serveControl } from './owner/control.ts'

let machine: FixtureMachine
beforeEach(async () => {
  machine = await createMachine()
})
afterEach(() => machine.close())

test('a stopping agent finishes what runs, takes nothing new, and then ends', async () => {
  const { market, clock } = machine
  const agent = await machine.start()
  machine.offer({ input: { sleep_ms: 30_000 } })
  await market.next('attempt.ready')
  agent.stop('drain')
  expect((await market.next('devices')).devices).toMatchObject([{ paused: true }, { paused: true }])
  machine.offer({ devices: whole(machine.devices()[1]) })
  expect(await market.next('attempt.refused')).toMatchObject({ code: 'draining' })
  await clock.advance(30_000)
  expect(await market.next('attempt.result')).toMatchObject({ outcome: 'completed', run_ms: 30_000 })
  expect(await ended(agent)).toEqual({ reason: 'stopped', message: 'The agent has stopped.' })
})

test('a stopping agent does not wait for ever', async () => {
  const { market, clock } = machine
  const agent = await machine.start({ drainMsMax: 60_000 })
  machine.offer({ input: { sleep_ms: 3_600_000 } })
  await market.next('attempt.ready')
  agent.stop('drain')
  await market.next('devices')
  for (let seconds = 0; seconds < 55; seconds += 5) {
    await clock.advance(5_000)
    await market.next('heartbeat')
  }
  expect(market.all('attempt.result')).toEqual([])
  await clock.advance(5_000)
  expect(await market.next('attempt.result')).toMatchObject({ code: 'agent_stopped', fault: 'provider' })
  await ended(agent)
})

test('told twice, it stops at once', async () => {
  const { market } = machine
  const agent = await machine.start()
  machine.offer({ input: { sleep_ms: 3_600_000 } })
  await market.next('attempt.ready')
  agent.stop('drain')
  agent.stop('now')
  expect(await market.next('attempt.result')).toMatchObject({ code: 'agent_stopped', fault: 'provider' })
  await ended(agent)
  expect(await readdir(join(machine.dataPath, 'results'))).toEqual([])
})

test('an agent that cannot reach its market still ends, and keeps its results', async () => {
  const { market } = machine
  const agent = await machine.start()
  market.acknowledges = false
  machine.offer()
  await market.next('attempt.result')
  market.onHello = () => 'silence'
  market.hangUp()
  agent.stop('drain')
  await ended(agent)
  expect(await readdir(join(machine.dataPath, 'results'))).toHaveLength(1)
})

test('a reclaimed GPU is free within five seconds, and stays its owner’s', async () => {
  const { market, clock } = machine
  const agent = await machine.start()
  machine.offer({ input: { sleep_ms: 3_600_000, ignore_cancel: true } })
  await market.next('attempt.ready')
  const reclaimed = agent.reclaim('0')
  await clock.advance(4_999)
  await reclaimed
  expect(await market.next('attempt.result')).toMatchObject({ outcome: 'failed', code: 'reclaimed', fault: 'provider' })
  expect((await market.next('devices')).devices).toMatchObject([{ paused: true }, { paused: false }])
  expect(agent.status().devices).toMatchObject([{ status: 'reclaimed' }, { status: 'available' }])
  machine.offer()
  expect(await market.next('attempt.refused')).toMatchObject({ code: 'paused' })

  agent.stop('now')
  await ended(agent)
  const next = await machine.start()
  expect(next.status().devices).toMatchObject([{ status: 'reclaimed' }, { status: 'available' }])
  market.heard.length = 0
  await next.resume(null)
  expect((await market.next('devices')).devices).toMatchObject([{ paused: false }, { paused: false }])
})

test('an owner is told when it cannot be kept that a GPU is taken back; until the agent ends it is', async () => {
  const { market, dataPath } = machine
  const agent = await machine.start()
  machine.offer({ input: { sleep_ms: 60_000 } })
  await market.next('attempt.ready')
  // What is to be replaced is no file.
  await mkdir(join(dataPath, 'paused.json'))
  await expect(agent.reclaim('0')).rejects.toThrow(/cannot be kept in paused\.json .*say it again/)
  expect(await market.next('attempt.result')).toMatchObject({ code: 'reclaimed' })
  expect(agent.status().devices).toMatchObject([{ status: 'reclaimed' }, { status: 'available' }])
  await expect(agent.resume('0')).rejects.toThrow(/a restart of the agent undoes it/)
  expect(agent.status().devices).toMatchObject([{ status: 'available' }, { status: 'available' }])
  await rmdir(join(dataPath, 'paused.json'))
  await agent.drain('0')
  agent.stop('now')
  await ended(agent)
  expect((await machine.start()).status().devices).toMatchObject([{ status: 'drained' }, { status: 'available' }])
})

test('a drained GPU finishes what runs on it and takes nothing new', async () => {
  const { market, clock } = machine
  const agent = await machine.start()
  machine.offer({ input: { sleep_ms: 1_000 } })
  await market.next('attempt.ready')
  await agent.drain(machine.devices()[0]!)
  await clock.advance(1_000)
  expect(await market.next('attempt.result')).toMatchObject({ outcome: 'completed' })
  machine.offer()
  expect(await market.next('attempt.refused')).toMatchObject({ code: 'paused' })
  machine.offer({ devices: whole(machine.devices()[1]) })
  await market.next('attempt.accepted')
})

test('what is kept warm on a GPU is let go once its owner has it back, by whichever door, and not before it is idle', async () => {
  const { market, clock } = machine
  const freed: string[] = []
  const executor = { ...createFakeExecutor({ clock }), free: async (uuid: string) => void freed.push(uuid) }
  const agent = await machine.start({}, { executors: [executor] })
  const [first, second] = machine.devices()
  machine.offer({ input: { sleep_ms: 1_000 } })
  await market.next('attempt.ready')
  await agent.drain('0')
  expect(freed).toEqual([])
  await clock.advance(1_000)
  await market.next('attempt.result')
  expect(new Set(freed.splice(0))).toEqual(new Set([first]))
  await agent.resume('0')
  freed.length = 0
  const gpu = { gpu_id: newId('gpu'), uuid: second!, name: 'second', price_per_hour: '0.5', maintenance: true }
  market.send({ type: 'gpus', gpus: [{ ...gpu, cool_down_ms: 0, on_trial: false }] })
  await agent.reclaim('0')
  expect(new Set(freed)).toEqual(new Set([first, second]))
})

test('a price below the owner’s own minimum is told as what keeps the GPU from earning', async () => {
  const limits = { ...noLimits, taskTypes: ['other' as const] }
  const agent = await machine.start({ limits: { ...limits, minPricePerHour: '0.5' } })
  expect(agent.status()).toMatchObject({ task_types: ['other'], problems: [] })
  agent.stop('now')
  await ended(agent)
  const dearer = await machine.start({ limits: { ...limits, minPricePerHour: '0.6' } })
  expect(dearer.status().problems).toEqual([
    expect.stringMatching(/the RTX 4090 is offered at 0\.5 ORB .* wants 0\.6.*: orbyte gpus set gpu_\w+ --price 0\.6/),
    expect.stringContaining('the RTX 4090'),
  ])
})

test('a GPU that the market has put into a cool-down says so, for as long as it lasts', async () => {
  const { market, clock } = machine
  const agent = await machine.start()
  const [uuid, other] = machine.devices()
  const gpu = { uuid, gpu_id: newId('gpu'), name: 'the cold one', price_per_hour: '0.5', maintenance: false }
  market.send({ type: 'gpus', gpus: [{ ...gpu, cool_down_ms: 240_000, on_trial: true }] } as never)
  machine.offer({ devices: whole(other), input: { sleep_ms: 3_600_000 } })
  await market.next('attempt.ready')
  expect(agent.status().devices[0]).toMatchObject({ status: 'cooling down', cool_down_ms: 240_000 })
  expect(machine.logged).toContain('the cold one has failed and cools down: the market offers it nothing for 240 s.')
  for (let minutes = 0; minutes < 4; minutes++) await clock.advance(60_000)
  expect(agent.status().devices[0]).toMatchObject({ status: 'on trial', cool_down_ms: 0 })
})

test('what an owner takes back while the agent still looks what there is, is taken back', async () => {
  const { market } = machine
  const agent = machine.startOnly()
  await agent.reclaim(null)
  expect(agent.status().devices).toMatchObject([{ status: 'reclaimed' }, { status: 'reclaimed' }])
  expect((await market.next('hello')).devices).toMatchObject([{ paused: true }, { paused: true }])
})

test('an agent that finds nothing to offer refuses its owner’s wishes with the reason', async () => {
  const agent = machine.startOnly({}, { detectors: () => [] })
  await expect(agent.drain(null)).rejects.toThrow('No GPU was found on this machine.')
  expect(await agent.ended).toMatchObject({ reason: 'failed' })
})

test('a GPU that is not here is named with those that are', async () => {
  const agent = await machine.start()
  await expect(agent.drain('7')).rejects.toThrow(
    'There is no GPU "7" here. There is: 0 (the RTX 4090), 1 (the RTX 4090).',
  )
})

test('an owner speaks to the agent over a socket in its data folder', async () => {
  const { dataPath } = machine
  const agent = await machine.start()
  await expect(askAgent(dataPath, 'status')).rejects.toThrow('No agent runs')
  const control = await serveControl(agent, dataPath)
  expect(await askAgent(dataPath, 'status')).toEqual(agent.status())
  expect((await askAgent(dataPath, 'drain', '1')).devices).toMatchObject([
    { status: 'available' },
    { status: 'drained' },
  ])
  expect((await askAgent(dataPath, 'resume')).devices).toMatchObject([{ status: 'available' }, { status: 'available' }])
  expect((await askAgent(dataPath, 'reclaim', '0')).devices).toMatchObject([{ status: 'reclaimed' }, {}])
  await expect(askAgent(dataPath, 'drain', 'none')).rejects.toThrow('There is no GPU "none" here')
  expect(await askAgent(dataPath, 'stop now')).toMatchObject({ stopping: true })
  await ended(agent)
  await control.close()
})

async function ended(agent: Agent) {
  let isOver = false
  void agent.ended.then(() => (isOver = true))
  while (!isOver) await machine.clock.advance(500)
  return await agent.ended
}

test('taking a GPU back stops all that have any of it, and nothing else', async () => {
  const { market } = machine
  const agent = await machine.start()
  const [first, second] = machine.devices()
  const shareOf = (uuid: string | undefined) => [{ uuid, milli: 250, vram_mib: 1_024 }]
  const input = { sleep_ms: 3_600_000 }
  const stopped = [machine.offer({ devices: shareOf(first), input }), machine.offer({ devices: shareOf(first), input })]
  const goesOn = machine.offer({ devices: shareOf(second), input })
  for (let count = 0; count < 3; count++) await market.next('attempt.ready')
  await agent.reclaim(first!)
  for (const attempt of stopped)
    expect(await market.next('attempt.result')).toMatchObject({ ...attempt, code: 'reclaimed' })
  expect(agent.status().devices[1]!.attempts).toMatchObject([{ id: goesOn.attempt_id }])
})
