import { expect, test } from 'vitest'
import { z } from 'zod'
import { JsonObject } from './endpoint.ts'
import { NonNegativeAmount, PositiveAmount } from './amounts.ts'
import { micros } from './money.ts'
import { listEndpoints } from './api.ts'
import { AgentMessage, ServerMessage } from './agent-messages.ts'
import { MarketEvent } from './events.ts'
import { taskInputs, taskOutputs } from './task-types.ts'
import { wireEncoder } from './wire-encoder.ts'

const Shape = z.object({
  name: z.string().nullable(),
  price: PositiveAmount.describe('a price'),
  cost: NonNegativeAmount.nullable(),
  note: z.string().optional(),
  offers: z.array(z.object({ price: PositiveAmount })),
  data: JsonObject,
})
const value = {
  name: null,
  price: micros(1_250_000),
  cost: null,
  offers: [{ price: micros(1) }, { price: micros(2_000_000) }],
  data: { any: ['thing', { price: 5 }] },
}

test('amounts become decimal strings wherever they are, and everything else stays', () => {
  expect(wireEncoder(Shape)(value)).toEqual({
    name: null,
    price: '1.25',
    cost: null,
    offers: [{ price: '0.000001' }, { price: '2' }],
    data: { any: ['thing', { price: 5 }] },
  })
  expect(wireEncoder(Shape)({ ...value, cost: micros(0), note: 'x' })).toEqual(
    z.encode(Shape, { ...value, cost: micros(0), note: 'x' }),
  )
})

test('what the schema does not have is not sent', () => {
  const secret = { ...value, password_hash: 'x', offers: [{ price: micros(1), secret: 'y' }] }
  expect(JSON.stringify(wireEncoder(Shape)(secret))).toBe(JSON.stringify(z.encode(Shape, secret)))
})

test('what does not fit the schema is refused, as it is by zod', () => {
  const encode = wireEncoder(Shape)
  for (const wrong of [
    { ...value, price: 0 },
    { ...value, price: 1.5 },
    { ...value, cost: -1 },
    { ...value, name: 5 },
    { ...value, offers: [{}] },
    { ...value, data: { undefined } },
  ]) {
    expect(() => encode(wrong as never)).toThrow(z.ZodError)
    expect(() => z.encode(Shape, wrong as never)).toThrow(z.ZodError)
  }
})

test('what it is given stays as it was', () => {
  const before = structuredClone(value)
  wireEncoder(Shape)(value)
  expect(value).toEqual(before)
})

test('the alternative of a union is found by its tag', () => {
  const Message = z.discriminatedUnion('type', [
    z.object({ type: z.enum(['paid', 'refunded']), amount: PositiveAmount }),
    z.object({ type: z.literal('noted'), text: z.string() }),
  ])
  const encode = wireEncoder(Message)
  expect(encode({ type: 'refunded', amount: micros(3) })).toEqual({ type: 'refunded', amount: '0.000003' })
  expect(encode({ type: 'noted', text: 'x', more: 1 } as never)).toEqual({ type: 'noted', text: 'x' })
})

test('zod makes code for everything that crosses the wire', () => {
  const schemas = listEndpoints().flatMap(({ endpoint }) => [endpoint.input, endpoint.output])
  for (const schema of [
    ...schemas,
    AgentMessage,
    ServerMessage,
    ...Object.values(taskInputs),
    ...Object.values(taskOutputs),
  ])
    expect(() => z.compile(schema, { strict: true })).not.toThrow()
})

test('everything that the market sends can be encoded', () => {
  for (const { endpoint } of listEndpoints()) wireEncoder(endpoint.output)
  wireEncoder(ServerMessage)
  wireEncoder(MarketEvent)
})
