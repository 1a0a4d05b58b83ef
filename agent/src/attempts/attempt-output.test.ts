import { createHash } from 'node:crypto'
import { AgentMessage, agentMessageBytesMax, fileChunkBytesMax } from '@orbyte/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ReliableMessage, ReliableMessageOf } from '../connection/wire-messages.ts'
import type { AttemptError } from '../executors/executor.ts'
import { manualClock } from '../fixture-clock.ts'
import { AttemptOutput } from './attempt-output.ts'

const attempt = { attempt_id: 'att_01arz3ndektsv4rrffq69g5fav', fencing_token: 'f' }

test('text that comes in one turn of the event loop is one message', async () => {
  const { output, clock, textsOf } = create()
  for (const piece of ['a', 'b', 'c']) output.text(piece)
  await clock.advance(0)
  output.text('d')
  await clock.advance(0)
  expect(textsOf()).toEqual([
    [0, 'abc'],
    [3, 'd'],
  ])
})

test('whatever is put out arrives whole, in messages that the market takes', async () => {
  const anyText = fc.string({ unit: 'grapheme', maxLength: 50 })
  await fc.assert(
    fc.asyncProperty(fc.array(anyText), fc.constantFrom(0, 65_535, 65_536), async (texts, length) => {
      const { output, clock, textsOf } = create()
      const all = ['x', '𝒳'.repeat(length), ...texts].join('')
      // Cut anywhere, also within a character.
      for (let at = 0; at < all.length; at += 32_771) {
        output.text(all.slice(at, at + 32_771))
        await clock.advance(0)
      }
      output.flush()
      expect(
        textsOf()
          .map(([, text]) => text)
          .join(''),
      ).toBe(all)
      let expectedOffset = 0
      for (const [offset, text] of textsOf()) {
        expect(offset).toBe(expectedOffset)
        expect(Buffer.from(text).toString()).toBe(text)
        expect(text.length).toBeLessThanOrEqual(65_536)
        expectedOffset += text.length
      }
    }),
    { numRuns: 25 },
  )
})

test('a full message of the worst characters is one that the market takes', () => {
  const { output, messages } = create()
  output.text('\u0001'.repeat(65_536))
  output.flush()
  messages.forEach(expectTaken)
})

test('log lines come in batches that the market takes, long ones are cut, and there is an end to them', async () => {
  const { output, clock, messages } = create()
  for (let line = 0; line < 250; line++) output.log('\u0001'.repeat(20_000))
  for (let line = 250; line < 20_000; line++) output.log(`line ${line}`)
  await clock.advance(100)
  messages.forEach(expectTaken)
  const lines = messages.flatMap((message) => (message as ReliableMessageOf<'attempt.log'>).lines)
  expect(lines).toHaveLength(10_001)
  let offset = 0
  for (const message of messages as ReliableMessageOf<'attempt.log'>[]) {
    expect(message).toMatchObject({ offset, run_ms: 1 })
    offset += message.lines.length
  }
  expect(lines[0]).toHaveLength(16_384)
  expect(lines.at(-1)).toBe('… the log is cut here.')
})

test.each([0, 1, fileChunkBytesMax, fileChunkBytesMax * 2 + 1])('a file of %i bytes arrives whole', (size) => {
  const { output, messages } = create()
  const bytes = Buffer.alloc(size, 7)
  output.file({ name: 'image.png', mimeType: 'image/png', bytes: new Uint8Array(bytes) })
  messages.forEach(expectTaken)
  const chunks = messages as ReliableMessageOf<'attempt.file'>[]
  expect(Buffer.concat(chunks.map(({ data }) => Buffer.from(data, 'base64')))).toEqual(bytes)
  for (const chunk of chunks) {
    expect(chunk).toMatchObject({
      run_ms: 1,
      size_bytes: size,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    })
  }
})

test.each([
  ['../secret', 'image/png'],
  ['image.png', 'not a type'],
])('a file named %s of type %s is the engine’s fault', (name, mimeType) => {
  const { output, failures, messages } = create()
  output.file({ name, mimeType, bytes: new Uint8Array(3) })
  expect(failures).toMatchObject([{ code: 'engine_failed', fault: 'provider' }])
  expect(messages).toEqual([])
})

test('what is too much ends it once, after what was put out before', () => {
  const { output, failures, textsOf } = create({ bytesMax: 6 })
  output.text('ab')
  output.text('cdé')
  expect(failures).toHaveLength(0)
  output.text('f')
  output.text('g')
  output.flush()
  expect(textsOf()).toEqual([[0, 'abcdé']])
  expect(failures).toMatchObject([{ code: 'output_too_large', fault: 'renter' }])
})

test('a market that takes nothing for long ends it, and the provider is at fault', () => {
  const { output, failures } = create({ send: () => false })
  output.text('a')
  output.flush()
  output.text('b')
  expect(failures).toMatchObject([{ code: 'agent_overloaded', fault: 'provider' }])
})

test('nothing comes after the end', async () => {
  const { output, clock, messages } = create()
  output.text('a')
  output.log('a')
  output.close()
  output.text('b')
  output.file({ name: 'b', mimeType: 'text/plain', bytes: new Uint8Array() })
  await clock.advance(1_000)
  output.flush()
  expect(messages).toEqual([])
})

type Changes = { bytesMax?: number; send?: () => boolean }

function create({ bytesMax = 100_000_000, send }: Changes = {}) {
  const clock = manualClock()
  const messages: ReliableMessage[] = []
  const failures: AttemptError[] = []
  const output = new AttemptOutput({
    attempt,
    clock,
    bytesMax,
    runMs: () => 1,
    send: send ?? ((message) => messages.push(message) > 0),
    onFailure: (error) => failures.push(error),
  })
  const textsOf = () => messages.map((message) => [numberAt(message), textAt(message)] as const)
  return { output, clock, messages, failures, textsOf }
}

const numberAt = (message: ReliableMessage) => (message as ReliableMessageOf<'attempt.output'>).offset
const textAt = (message: ReliableMessage) => (message as ReliableMessageOf<'attempt.output'>).text

function expectTaken(message: ReliableMessage): void {
  AgentMessage.parse({ ...message, seq: 1 })
  expect(Buffer.byteLength(JSON.stringify(message))).toBeLessThan(agentMessageBytesMax - 100)
}
