import { AgentMessage } from '@orbyte/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Outbox } from './outbox.ts'
import type { ReliableMessage } from './wire-messages.ts'

const attempt = { attempt_id: 'att_01arz3ndektsv4rrffq69g5fav', fencing_token: 'f' }
const output = (offset: number, text = 'x'): ReliableMessage => {
  return { type: 'attempt.output', ...attempt, offset, text, run_ms: 0 }
}
const result: ReliableMessage = {
  type: 'attempt.result',
  ...attempt,
  outcome: 'completed',
  run_ms: 1,
  output_data: {},
  code: 'completed',
  message: '',
  fault: null,
}
const seqsOf = (texts: string[]) => texts.map((text) => (AgentMessage.parse(JSON.parse(text)) as { seq: number }).seq)

test('messages wait for a connection, and are numbered from 1 as they are sent', () => {
  const outbox = new Outbox()
  const sent: string[] = []
  outbox.add(output(0))
  outbox.add(result)
  outbox.connect((text) => sent.push(text), 0)
  outbox.add(output(1))
  expect(seqsOf(sent)).toEqual([1, 2, 3])
})

test('what was not acknowledged is sent again with the same numbers, and nothing else is', () => {
  const outbox = new Outbox()
  const first: string[] = []
  const second: string[] = []
  outbox.connect((text) => first.push(text), 0)
  for (let offset = 0; offset < 4; offset++) outbox.add(output(offset))
  outbox.acknowledge(1)
  outbox.disconnect()
  outbox.add(result)
  outbox.connect((text) => second.push(text), 2)
  expect(second.slice(0, 2)).toEqual(first.slice(2))
  expect(seqsOf(second)).toEqual([3, 4, 5])
})

test('who waits for an acknowledgement is told once', () => {
  const outbox = new Outbox()
  let told = 0
  outbox.connect(() => {}, 0)
  outbox.add(result, () => told++)
  outbox.acknowledge(0)
  expect(told).toBe(0)
  outbox.acknowledge(1)
  outbox.acknowledge(1)
  outbox.acknowledge(99)
  expect(told).toBe(1)
})

test('output has no room without end, a result always has', () => {
  const outbox = new Outbox({ waitingBytesMax: 1_000 })
  expect(outbox.add(output(0, 'x'.repeat(800)))).toBe(true)
  expect(outbox.add(output(800, 'x'.repeat(800)))).toBe(false)
  expect(outbox.add(result)).toBe(true)
})

test('no more is on its way than may be unacknowledged', () => {
  const outbox = new Outbox({ unacknowledgedBytesMax: 500 })
  const sent: string[] = []
  outbox.connect((text) => sent.push(text), 0)
  for (let offset = 0; offset < 3; offset++) outbox.add(output(offset, 'x'.repeat(300)))
  expect(sent).toHaveLength(1)
  outbox.acknowledge(1)
  expect(sent).toHaveLength(2)
})

test('dropping what was never sent leaves no gap in the numbers', () => {
  const outbox = new Outbox()
  const sent: string[] = []
  outbox.connect(() => {}, 0)
  outbox.add(output(0))
  outbox.disconnect()
  outbox.add(output(1))
  outbox.add(result)
  outbox.dropUnsent(({ type }) => type === 'attempt.output')
  outbox.connect((text) => sent.push(text), 0)
  expect(seqsOf(sent)).toEqual([1, 2])
  expect(outbox.unacknowledgedOf(attempt.attempt_id)).toHaveLength(2)
})

test('it tells when everything has been acknowledged', async () => {
  const outbox = new Outbox()
  await outbox.emptied()
  outbox.connect(() => {}, 0)
  outbox.add(result)
  const emptied = outbox.emptied()
  outbox.acknowledge(1)
  await emptied
})

test('whatever breaks, the server hears every message, in order, from first to last', () => {
  const step = fc.oneof(
    fc.constant('add' as const),
    fc.constant('reconnect' as const),
    fc.constant('disconnect' as const),
    fc.constant('acknowledge' as const),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const outbox = new Outbox({ unacknowledgedBytesMax: 400 })
      const heard = new Map<number, string>()
      let added = 0
      let acknowledged = 0
      const hear = (text: string) => {
        const [seq] = seqsOf([text])
        expect(heard.get(seq!) ?? text).toBe(text)
        if (seq! > acknowledged) expect(heard.size + 1).toBeGreaterThanOrEqual(seq!)
        heard.set(seq!, text)
      }
      for (const action of [...steps, 'reconnect' as const]) {
        if (action === 'add') outbox.add(output(added++))
        if (action === 'reconnect') outbox.connect(hear, acknowledged)
        if (action === 'disconnect') outbox.disconnect()
        if (action === 'acknowledge') outbox.acknowledge((acknowledged = heard.size))
      }
      while (acknowledged < heard.size) outbox.acknowledge((acknowledged = heard.size))
      const offsets = [...heard.values()].map((text) => (JSON.parse(text) as { offset: number }).offset)
      expect(offsets).toEqual(Array.from({ length: added }, (_, offset) => offset))
    }),
  )
})
