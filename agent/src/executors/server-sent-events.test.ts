import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readEventData } from './server-sent-events.ts'

test.each(['\n', '\r\n', '\r'])('events are read however the stream is cut, with line ends %j', async (end) => {
  const stream = [': a comment', 'event: x', 'data: {"text":"Grüße 🎉"}', '', 'data:two', 'data: lines', '', ''].join(
    end,
  )
  const bytes = new TextEncoder().encode(stream)
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(bytes.length)), async (cuts) => {
      expect(await eventsOf(bytes, cuts)).toEqual(['{"text":"Grüße 🎉"}', 'two\nlines'])
    }),
  )
})

test('the last event counts even when the stream ends without an empty line', async () => {
  expect(await eventsOf(new TextEncoder().encode('data: one\n\ndata: [DONE]'), [])).toEqual(['one', '[DONE]'])
})

test('a line without end is refused', async () => {
  const endless = new TextEncoder().encode('data: ' + 'x'.repeat(1_000_001))
  await expect(eventsOf(endless, [])).rejects.toThrow('too long')
})

async function eventsOf(bytes: Uint8Array, cuts: number[]): Promise<string[]> {
  const edges = [0, ...cuts, bytes.length].sort((a, b) => a - b)
  const pieces = edges.slice(1).map((edge, index) => bytes.slice(edges[index], edge))
  const events: string[] = []
  for await (const data of readEventData(ReadableStream.from(pieces) as ReadableStream<Uint8Array>)) events.push(data)
  return events
}
