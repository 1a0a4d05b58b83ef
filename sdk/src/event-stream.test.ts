import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createEventStreamParser, eventsOfStream, type StreamEvent } from './event-stream.ts'

function parseAll(text: string): StreamEvent[] {
  return createEventStreamParser()(text)
}

async function parseBytes(pieces: Uint8Array[]): Promise<StreamEvent[]> {
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(Uint8Array.from(piece))
      controller.close()
    },
  })
  const events: StreamEvent[] = []
  for await (const event of eventsOfStream(stream)) events.push(event)
  return events
}

test('fields, comments, several lines of data and all three line ends are read as the standard says', () => {
  expect(parseAll('\uFEFFid: 7\nevent: task.queued\ndata: {"a":1}\n\n')).toEqual([
    { id: '7', type: 'task.queued', data: '{"a":1}' },
  ])
  expect(parseAll(': ping\n\ndata:one\r\ndata: two\r\n\r\ndata\r\rretry: 3\n\n')).toEqual([
    { id: '', type: 'message', data: 'one\ntwo' },
    { id: '', type: 'message', data: '' },
  ])
  expect(parseAll('id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\ndata: cut off')).toEqual([
    { id: '1', type: 'message', data: 'a' },
    { id: '1', type: 'message', data: 'b' },
    { id: '1', type: 'message', data: 'c' },
  ])
})

const line = fc.oneof(
  fc.constantFrom('', ':', ': ping', 'data', 'data:', 'data: ', 'id', 'event: x', 'retry: 10', '\uFEFFdata: bom'),
  fc.string({ unit: 'grapheme' }).map((text) => `data: ${text.replace(/[\r\n]/g, ' ')}`),
  fc.nat().map((id) => `id: ${id}`),
)
const streamText = fc
  .array(fc.tuple(line, fc.constantFrom('\n', '\r\n', '\r', '\n\n', '\r\n\r\n', '\r\r')), { maxLength: 30 })
  .map((lines) => lines.map(([text, end]) => text + end).join(''))

test('any way of cutting the bytes gives the same events', async () => {
  await fc.assert(
    fc.asyncProperty(streamText, fc.array(fc.nat(), { maxLength: 20 }), async (text, cuts) => {
      const bytes = new TextEncoder().encode(text)
      const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
      const pieces = places.slice(1).map((end, index) => bytes.slice(places[index], end))
      const whole = await parseBytes([bytes])
      expect(await parseBytes(pieces)).toEqual(whole)
      expect(await parseBytes(Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(whole)
    }),
  )
})

test('what is written as events is read as the same events', async () => {
  const written = fc.array(fc.record({ id: fc.nat(), data: fc.json() }), { maxLength: 20 })
  await fc.assert(
    fc.asyncProperty(written, async (events) => {
      const text = events
        .map(({ id, data }) => `id: ${id}\nevent: e\n${data.replace(/^/gm, 'data: ')}\n\n`)
        .join(': ping\n\n')
      expect(parseAll(text)).toEqual(events.map(({ id, data }) => ({ id: String(id), type: 'e', data })))
    }),
  )
})

test('whoever stops reading closes the stream', async () => {
  let cancelled = false
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull: (controller) => controller.enqueue(new TextEncoder().encode('data: x\n\n')),
    cancel: () => {
      cancelled = true
    },
  })
  for await (const event of eventsOfStream(stream)) {
    expect(event.data).toBe('x')
    break
  }
  expect(cancelled).toBe(true)
})
