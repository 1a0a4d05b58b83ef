import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { agentMessageBytesMax } from '@orbyte/protocol'
import { AttemptError } from './executors/executor.ts'
import { createMachine, type FixtureMachine, whole } from './fixture-machine.ts'

let machine: FixtureMachine
beforeEach(async () => {
  machine = await createMachine()
})
afterEach(() => machine.close())

test('after a lost connection the agent comes back, goes on, and sends again what was not acknowledged', async () => {
  const { market, clock } = machine
  await machine.start()
  market.acknowledges = false
  const attempt = machine.offer({ input: { sleep_ms: 40_000, output: 'abcd', chunks: 4 } })
  await market.next('attempt.ready')
  await clock.advance(10_000)
  const output = await market.next('attempt.output')
  market.hangUp()
  await reconnected()
  const hello = market.all('hello').at(-1)!
  expect(hello.instance).toBe(market.all('hello')[0]!.instance)
  expect(hello.attempts).toMatchObject([{ ...attempt, status: 'running' }])
  const again = () => market.all('attempt.output').filter(({ seq }) => seq === output.seq)
  while (again().length < 2) await clock.advance(1)
  expect(again()).toEqual([output, output])
  expect(market.all('attempt.accepted')).toMatchObject([{ seq: 1 }, { seq: 1 }])
  market.acknowledges = true
  while (market.all('attempt.result').length === 0) await clock.advance(1_000)
  expect(market.all('attempt.result')).toMatchObject([{ outcome: 'completed', run_ms: 40_000 }])
})

test('what the welcome says is durable is not sent again', async () => {
  const { market } = machine
  await machine.start()
  market.acknowledges = false
  machine.offer({ input: { sleep_ms: 40_000 } })
  const { seq } = await market.next('attempt.ready')
  market.onHello = () => ({ acked_seq: seq })
  market.hangUp()
  await reconnected()
  await market.next('heartbeat')
  expect(market.all('attempt.ready')).toHaveLength(1)
})

test('the agent says how far it has counted, and takes a lost acknowledgement from the answer to a heartbeat', async () => {
  const { market, clock } = machine
  await machine.start()
  market.acknowledges = false
  machine.offer()
  const { seq } = await market.next('attempt.result')
  market.answersHeartbeats = false
  while (market.all('heartbeat').at(-1)!.last_seq < seq) await clock.advance(1_000)
  market.send({ type: 'heartbeat.ack', id: market.all('heartbeat').at(-1)!.id, acked_seq: seq, attempts: [] })
  market.hangUp()
  await reconnected()
  expect(market.all('hello').map(({ acked_seq }) => acked_seq)).toEqual([0, seq])
  expect(market.all('attempt.result')).toHaveLength(1)
})

test('an attempt that the market has given away is stopped when the agent is back', async () => {
  const { market } = machine
  await machine.start()
  const attempt = machine.offer({ input: { sleep_ms: 60_000 } })
  await market.next('attempt.ready')
  market.onHello = () => ({ attempts: [{ ...attempt, action: 'stop', deadline_in_ms: 0 }] })
  market.hangUp()
  await reconnected()
  expect(await market.next('attempt.result')).toMatchObject({ ...attempt, outcome: 'stopped', code: 'stopped' })
})

test('an attempt that a heartbeat’s answer does not name any more is stopped', async () => {
  const { market, clock } = machine
  await machine.start()
  const attempt = machine.offer({ input: { sleep_ms: 60_000 } })
  await market.next('attempt.ready')
  market.answersHeartbeats = false
  await clock.advance(1_000)
  const { id } = await market.next('heartbeat')
  const late = machine.offer({ devices: whole(machine.devices()[1]), input: { sleep_ms: 60_000 } })
  await market.next('attempt.ready')
  market.send({ type: 'heartbeat.ack', id, attempts: [] })
  expect(await market.next('attempt.result')).toMatchObject({ ...attempt, outcome: 'stopped' })
  await clock.advance(1_000)
  expect((await market.next('heartbeat')).attempts).toMatchObject([late])
})

test('an attempt whose deadline passes stops by itself, and only its result is told', async () => {
  const { market, clock } = machine
  const agent = await machine.start()
  const attempt = machine.offer({ input: { sleep_ms: 200_000, output: 'x'.repeat(200), chunks: 200 } })
  await market.next('attempt.ready')
  market.answersHeartbeats = false
  market.onHello = () => 'silence'
  await clock.advance(10_000)
  const before = market.all('attempt.output').length
  market.hangUp()
  await clock.advance(69_000)
  expect(agent.status().devices[0]).toMatchObject({ status: 'running' })
  await clock.advance(2_000)
  expect(agent.status().devices[0]).toMatchObject({ status: 'available' })
  market.onHello = () => ({})
  await reconnected()
  const result = await market.next('attempt.result')
  expect(result).toMatchObject({ ...attempt, outcome: 'stopped', code: 'deadline_passed' })
  expect(market.all('attempt.output').filter(({ offset }) => offset > before)).toEqual([])
})

test('heartbeats that are answered renew the deadline', async () => {
  const { market, clock } = machine
  await machine.start()
  machine.offer({ input: { sleep_ms: 200_000 } })
  await market.next('attempt.ready')
  for (let beat = 0; beat < 40; beat++) {
    await clock.advance(5_000)
    await market.next('heartbeat')
  }
  expect(await market.next('attempt.result')).toMatchObject({ outcome: 'completed', run_ms: 200_000 })
})

test('a market that falls silent is left, and found again', async () => {
  const { market, clock } = machine
  await machine.start()
  market.answersHeartbeats = false
  while (market.connections() === 1) await clock.advance(1_000)
  market.answersHeartbeats = true
  machine.offer()
  await market.next('attempt.result')
})

test('a result that was not acknowledged is told by the next agent process', async () => {
  const { market, clock, dataPath } = machine
  const agent = await machine.start()
  market.acknowledges = false
  const attempt = machine.offer({ input: { output: 'kept', files: [{ name: 'a.txt', text: 'also kept' }] } })
  const result = await market.next('attempt.result')
  agent.stop('now')
  await endedOf(agent)
  expect(await readdir(join(dataPath, 'results'))).toHaveLength(1)

  market.acknowledges = true
  market.heard.length = 0
  const next = await machine.start()
  expect(market.all('hello')[0]!.attempts).toMatchObject([{ ...attempt, status: 'ended' }])
  const told = await market.next('attempt.result')
  expect({ ...told, seq: 0 }).toEqual({ ...result, seq: 0 })
  expect(market.all('attempt.output')).toMatchObject([{ offset: 0, text: 'kept' }])
  expect(market.all('attempt.file')).toMatchObject([{ name: 'a.txt' }])
  expect(market.all('attempt.result')).toHaveLength(1)
  while (next.status().results_waiting > 0) await clock.advance(1)
})

test('an attempt that ran when the agent died has failed, and the provider is at fault', async () => {
  const { market } = machine
  await machine.start()
  const attempt = machine.offer({ input: { sleep_ms: 60_000 } })
  await market.next('attempt.ready')
  // The folder comes with the first file, and a file under another name at first.
  const kept = async () => (await readdir(join(machine.dataPath, 'results')).catch(() => [])).join()
  while (!(await kept()).endsWith('.json')) await machine.clock.advance(1)
  // The second agent starts as after a kill: the first one has not cleaned up.
  market.heard.length = 0
  await machine.start()
  expect(market.all('hello')[0]!.attempts).toMatchObject([{ ...attempt, status: 'ended', run_ms: 0 }])
  const told = await market.next('attempt.result')
  expect(told).toMatchObject({ ...attempt, outcome: 'failed', code: 'agent_restarted', fault: 'provider' })
})

test('a results folder with rubbish in it is survived, and what a crash cut off is cleared away', async () => {
  const agent = await machine.start()
  machine.offer()
  await machine.market.next('attempt.result')
  agent.stop('now')
  await endedOf(agent)
  expect(await readdir(join(machine.dataPath, 'results'))).toEqual([])
  for (const name of ['att_broken.json', 'att_cut_off.json.1c0a865b.part'])
    await writeFile(join(machine.dataPath, 'results', name), '{"attempt_id":')
  await machine.start()
  expect(machine.market.all('hello').at(-1)!.attempts).toEqual([])
  expect(await readdir(join(machine.dataPath, 'results'))).toEqual(['att_broken.json'])
})

test.each([
  ['no JSON', 'hello?'],
  ['an unknown type', '{"type":"party"}'],
  ['a start without what it needs', '{"type":"attempt.start","attempt_id":"att_1"}'],
  ['an array', '[]'],
  ['lists within lists', `{"type":"ack","seq":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
  ['an input of lists within lists', deepStart()],
  ['bytes', Buffer.from([0, 255, 3])],
  ['nothing', ''],
])('%s from the server is survived', async (_what, data) => {
  const agent = await machine.start()
  machine.market.sendRaw(data)
  machine.offer()
  await machine.market.next('attempt.result')
  expect(agent.status().connected).toBe(true)
  expect(machine.market.connections()).toBe(1)
})

test('a message that is far too large ends the connection, not the agent', async () => {
  await machine.start()
  machine.market.sendRaw('x'.repeat(agentMessageBytesMax + 1))
  await reconnected()
  machine.offer()
  await machine.market.next('attempt.result')
})

test('a server that says nothing but rubbish is left', async () => {
  await machine.start()
  for (let count = 0; count < 20; count++) machine.market.sendRaw('rubbish')
  await reconnected()
})

test('a start that overtakes the welcome is run', async () => {
  const { market } = machine
  market.onHello = ({ devices }) => {
    machine.offer({ devices: whole(devices[0]!.uuid) })
    return {}
  }
  await machine.start()
  await market.next('attempt.result')
})

test('an agent that is refused for good ends and says why', async () => {
  const { market } = machine
  market.onHello = () => {
    market.send({ type: 'refused', code: 'agent_revoked', message: 'Its key was revoked.', retry: false })
    return 'silence'
  }
  const agent = machine.startOnly()
  expect(await agent.ended).toEqual({
    reason: 'refused',
    message: 'The market does not accept this agent: Its key was revoked. (agent_revoked)',
  })
})

test('a market that is gone is complained of once, and its absence is in the status', async () => {
  const { market, clock } = machine
  const agent = await machine.start()
  await market.close()
  const complaints = () => machine.logged.filter((line) => line.startsWith('No connection to'))
  while (complaints().length < 2) await clock.advance(1_000)
  for (let tries = 0; tries < 20; tries++) await clock.advance(30_000)
  // The first is of the connection that broke, the second of all that were not opened.
  expect(complaints()).toHaveLength(2)
  expect(agent.status()).toMatchObject({ connected: false, problems: [expect.stringContaining('No connection to')] })
})

test('an agent that is refused for now comes back', async () => {
  const { market } = machine
  market.onHello = () => {
    market.send({ type: 'refused', code: 'starting', message: 'Not ready yet.', retry: true })
    market.onHello = () => ({})
    return 'silence'
  }
  const agent = machine.startOnly()
  await market.next('hello')
  await reconnected()
  await market.next('heartbeat')
  expect(agent.status().connected).toBe(true)
  expect(machine.logged).toContain('The market refuses this agent for now: Not ready yet. (starting) Trying again.')
})

test('fetching a model is told as it goes, and is not charged', async () => {
  const { market, clock } = machine
  const [fake] = executorsOf()
  await machine.start(
    {},
    {
      executors: [{ ...fake, taskTypes: ['text_generation'], modelFormats: ['gguf'] }],
      models: {
        async fetchModel(model, { onProgress }) {
          for (const part of [0, 0.25, 1]) {
            onProgress(part * 1_000, 1_000)
            await clock.sleep(1_000)
          }
          if (model.name === 'gone') throw new AttemptError('model_unavailable', 'It is gone.', 'provider')
          return { name: model.name, format: 'gguf', files: {}, promptStyle: null, contextTokens: null }
        },
      },
    },
  )
  machine.offer({ task_type: 'text_generation', input: { prompt: 'Hi' }, model: modelOf('tiny') })
  await market.next('attempt.preparing')
  await clock.advance(4_000)
  expect(await market.next('attempt.result')).toMatchObject({ outcome: 'completed', run_ms: 0 })
  expect(market.all('attempt.preparing').map(({ progress }) => progress)).toEqual([
    'fetching tiny 0 %',
    'fetching tiny 25 %',
    'fetching tiny 100 %',
  ])
  const { devices } = await market.next('devices')
  expect(devices[0]).toMatchObject({ loaded_models: ['tiny'], cached_models: ['tiny'] })

  machine.offer({ task_type: 'text_generation', input: { prompt: 'Hi' }, model: modelOf('gone') })
  await market.next('attempt.accepted')
  await market.next('attempt.accepted')
  await clock.advance(4_000)
  expect(await market.next('attempt.result')).toMatchObject({ code: 'model_unavailable', fault: 'provider' })
})

/** A start of which only the input is not as it should be. */
function deepStart(): string {
  const id = '0'.repeat(26)
  const names = `"attempt_id":"att_${id}","fencing_token":"f","task_id":"task_${id}","devices":[{"uuid":"d","milli":1000,"vram_mib":null}],"task_type":"other"`
  const numbers = '"model":null,"duration_ms_max":1000,"deadline_in_ms":1000,"output_bytes_max":1000'
  return `{"type":"attempt.start",${names},${numbers},"input":{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}}`
}

/** Moves the clock until the agent has said hello once more. */
async function reconnected(): Promise<void> {
  const { market, clock } = machine
  const before = market.all('hello').length
  while (market.all('hello').length === before) await clock.advance(100)
}

async function endedOf(agent: { ended: Promise<unknown> }): Promise<void> {
  let isOver = false
  void agent.ended.then(() => (isOver = true))
  while (!isOver) await machine.clock.advance(500)
}

/** An executor that succeeds at once. */
function executorsOf() {
  return [
    {
      name: 'instant',
      taskTypes: ['other' as const],
      modelFormats: null,
      several: false,
      shares: false,
      check: async () => null,
      run: async () => ({ text: 'done' }),
      close: async () => {},
    },
  ] as const
}

function modelOf(name: string) {
  return {
    name,
    title: name,
    description: '',
    task_types: ['text_generation'],
    format: 'gguf',
    files: [],
    parameters: 1,
    context_tokens: null,
    prompt_style: null,
    vram_gb: 1,
    licence: 'MIT',
    origin: '',
    demo: true,
  }
}
