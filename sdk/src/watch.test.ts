import { PassThrough } from 'node:stream'
import { api, type MarketEvent, micros, problem, type Task } from '@orbyte/protocol'
import { rawRoute, route } from '@orbyte/server/http/route.ts'
import { expect, test } from 'vitest'
import { createClient } from './client.ts'
import { attemptId, startMarket, taskId, user, userId } from './fixture-market.ts'
import { runTask } from './run-task.ts'
import { type TaskEvent, watch } from './watch.ts'

const at = user.created_at
const event = (cursor: number, type: MarketEvent['type'], data: MarketEvent['data'] = {}): MarketEvent => ({
  ...{ cursor, type, at, task_id: taskId, attempt_id: attemptId, data },
})
const history = [
  event(1, 'task.queued'),
  event(2, 'attempt.ready'),
  event(3, 'output.appended', { offset: 0, text: 'wrong' }),
  event(4, 'output.reset'),
  event(5, 'output.appended', { offset: 0, text: 'Once ' }),
  event(6, 'output.appended', { offset: 5, text: 'upon' }),
  event(7, 'task.completed'),
  event(8, 'payment.settled'),
]
const task: Task = {
  id: taskId,
  renter_id: userId,
  title: null,
  task_type: 'text_generation',
  status: 'completed',
  gpu_id: null,
  max_price_per_hour: micros(1_000_000),
  max_duration_ms: 600_000,
  max_wait_ms: 600_000,
  auto_pay: true,
  allow_reexecution: false,
  priority: 5,
  hold: micros(170_000),
  cost: micros(12),
  run_ms: 40,
  attempts_count: 1,
  end: { code: 'completed', message: 'Done.', decided_by: 'agent' },
  ...{ created_at: at, updated_at: at, started_at: at, completed_at: at },
  requirements: {},
  input_data: { prompt: 'Once' },
  output_data: { text: 'Once upon', model: 'm', finish_reason: 'stop', prompt_tokens: 1, completion_tokens: 2 },
  files: [],
  attempts: [],
  waiting: null,
  payment_id: null,
  reexecution: null,
}

type Connection = { after: number; send: (events: MarketEvent[]) => void; end: () => void; cut: () => void }

/** A market whose event stream does what `serve` says, one connection after the other. */
async function startStreams(
  serve: (connection: Connection, number: number) => void,
  status: Task['status'] = 'completed',
) {
  const asked: number[] = []
  const url = await startMarket([
    rawRoute(api.tasks.events, async ({ after = 0 }, _caller, reply) => {
      const stream = new PassThrough()
      asked.push(after)
      const send = (events: MarketEvent[]) => {
        for (const one of events)
          stream.write(`id: ${one.cursor}\nevent: ${one.type}\ndata: ${JSON.stringify(one)}\n\n`)
      }
      const sent = reply.type('text/event-stream').send(stream)
      serve({ after, send, end: () => stream.end(), cut: () => reply.raw.destroy() }, asked.length)
      return sent
    }),
    route(api.tasks.get, async () => ({ ...task, status })),
    route(api.tasks.create, async () => ({ ...task, status: 'pending' as const })),
  ])
  return { url, client: createClient({ url, token: 'good', retry: { firstDelayMs: 1 } }), asked }
}

async function collect(events: AsyncIterable<TaskEvent>): Promise<number[]> {
  const cursors: number[] = []
  for await (const { cursor } of events) cursors.push(cursor)
  return cursors
}
const all = history.map(({ cursor }) => cursor)

test('a watch tells everything from the beginning and ends with the stream of a task that has ended', async () => {
  const { client, asked } = await startStreams(({ send, end }) => {
    send(history)
    end()
  })
  expect(await collect(watch(client, taskId))).toEqual(all)
  expect(asked).toEqual([0])
})

test('a watch goes on after the last event when connections break, and tells each event once', async () => {
  const { client, asked } = await startStreams(({ after, send, end, cut }, number) => {
    const rest = history.filter(({ cursor }) => cursor > after)
    // The second one repeats what was heard; the third closes politely, as a stopping server does.
    if (number === 1) send(history.slice(0, 2))
    else if (number === 2) send(history.slice(0, 4))
    else if (number === 3) send(rest.slice(0, 1))
    else send(rest)
    if (number < 3) setImmediate(cut)
    else end()
  }, 'running')
  const events = watch(client, taskId, { firstDelayMs: 1 })
  expect(await collect(events)).toEqual(all)
  expect(asked[0]).toBe(0)
  expect(asked.length).toBeGreaterThanOrEqual(4)
})

test('a watch that starts after the end hears nothing and ends', async () => {
  const { client, asked } = await startStreams(({ end }) => end())
  expect(await collect(watch(client, taskId, { after: 8, firstDelayMs: 1 }))).toEqual([])
  expect(asked).toEqual([8, 8])
})

test('a watch gives up with the reason after so many failures, and at once where coming back does not help', async () => {
  const gone = createClient({ url: 'http://127.0.0.1:1', token: 'good', retry: { retriesMax: 0 } })
  await expect(collect(watch(gone, taskId, { failuresMax: 2, firstDelayMs: 1 }))).rejects.toMatchObject({
    code: 'unreachable',
  })
  const url = await startMarket([
    rawRoute(api.tasks.events, async () => {
      throw problem('not_found', 'There is no such task.')
    }),
  ])
  await expect(collect(watch(createClient({ url, token: 'good' }), taskId))).rejects.toMatchObject({
    code: 'not_found',
  })
})

test('a silent connection is taken for dead and made again', async () => {
  const { url, asked } = await startStreams(({ send, end, after }, number) => {
    send(history.filter(({ cursor }) => cursor > after && (number > 1 || cursor < 3)))
    if (number > 1) end()
  })
  const impatient = createClient({ url, token: 'good', silenceMsMax: 50 })
  expect(await collect(watch(impatient, taskId, { firstDelayMs: 1 }))).toEqual(all)
  expect(asked.length).toBeGreaterThan(1)
})

test('a signal ends a watch with its reason', async () => {
  const { client } = await startStreams(({ send }) => send(history.slice(0, 2)), 'running')
  const controller = new AbortController()
  const heard: number[] = []
  const watching = (async () => {
    for await (const { cursor } of watch(client, taskId, { signal: controller.signal })) {
      heard.push(cursor)
      if (cursor === 2) controller.abort(new Error('enough'))
    }
  })()
  await expect(watching).rejects.toThrow('enough')
  expect(heard).toEqual([1, 2])
})

test('running a task gives its text as it comes, says when it starts again, and returns the finished task', async () => {
  const { client } = await startStreams(({ send, end }) => {
    send(history)
    end()
  })
  let text = ''
  let submitted = ''
  const finished = await runTask(
    client,
    { task_type: 'text_generation', input_data: { prompt: 'Once' } },
    {
      onSubmitted: ({ status }) => (submitted = status),
      onOutput: (piece) => (text += piece),
      onReset: () => (text = ''),
    },
  )
  expect(submitted).toBe('pending')
  expect(text).toBe('Once upon')
  expect(finished.output_data?.text).toBe('Once upon')
  expect(finished.cost).toBe('0.000012')
})
