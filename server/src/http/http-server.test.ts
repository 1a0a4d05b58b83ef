import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { api, Problem } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, type TestUser } from '../fixture-server.ts'
import { createHttpServer, mountRoutes } from './http-server.ts'
import { route } from './route.ts'

let market: Market
let alice: TestUser
beforeAll(async () => {
  market = await startMarket()
  alice = await market.person()
})
afterAll(() => market.close())

const post = (path: string, body: string | undefined, contentType?: string) =>
  fetch(market.url + path, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${alice.token}`,
      ...(contentType !== undefined && { 'content-type': contentType }),
    },
    ...(body !== undefined && { body }),
  })

async function problemOf(response: Response): Promise<[string, Problem]> {
  expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/)
  const problem = Problem.parse(await response.json())
  expect(problem).toMatchObject({
    status: response.status,
    type: `urn:orbyte:error:${problem.code}`,
    request_id: expect.any(String),
  })
  return [`${response.status} ${problem.code}`, problem]
}

describe('a body that cannot be read is refused with the reason', () => {
  test.for([
    ['broken JSON', '{"amount": ', 'application/json', '400 malformed_json'],
    ['nothing, called JSON', '', 'application/json', '400 malformed_json'],
    ['a list', '[]', 'application/json', '400 invalid_request'],
    ['a text', '"amount"', 'application/json', '400 invalid_request'],
    ['plain text', 'amount=1', 'text/plain', '415 unsupported_media_type'],
    ['XML', '<amount/>', 'application/xml', '415 unsupported_media_type'],
    ['a form, where none is taken', 'amount=1', 'application/x-www-form-urlencoded', '415 unsupported_media_type'],
    ['another prototype', '{"__proto__": {"amount": "1"}}', 'application/json', '400 malformed_json'],
  ] as const)('%s', async ([, body, contentType, expected]) => {
    expect((await problemOf(await post('/api/wallet/deposit', body, contentType)))[0]).toBe(expected)
    expect(await market.balance(alice)).toBe('0')
  })

  test('one that is nested too deeply', async () => {
    const nested = (levels: number) =>
      `{"task_type":"other","input_data":{"a":${'['.repeat(levels)}${']'.repeat(levels)}}}`
    for (const levels of [99, 5_000, 400_000])
      expect((await problemOf(await post('/api/tasks/', nested(levels), 'application/json')))[0]).toBe(
        '400 malformed_json',
      )
    expect((await problemOf(await post('/api/tasks/', nested(98), 'application/json')))[0]).toBe('409 no_gpu_fits')
  })

  test('one that is too large', async () => {
    const [code] = await problemOf(
      await post('/api/tasks/', JSON.stringify({ title: 'x'.repeat(1_000_001) }), 'application/json'),
    )
    expect(code).toBe('413 body_too_large')
  })

  test('but a batch may be larger than other bodies', async () => {
    const tasks = [{ task_type: 'other', input_data: { text: 'x'.repeat(1_000_001) } }]
    expect((await problemOf(await post('/api/tasks/batch', JSON.stringify({ tasks }), 'application/json')))[0]).toBe(
      '409 no_gpu_fits',
    )
  })
})

test('unknown fields, wrong types and what is missing are named, all of them', async () => {
  const body = JSON.stringify({ task_type: 'cooking', priority: 11, colour: 'red', max_cost: '0.0000001' })
  const [code, { errors, detail }] = await problemOf(await post('/api/tasks/', body, 'application/json'))
  expect(code).toBe('400 invalid_request')
  expect(errors!.map(({ field }) => field).sort()).toEqual([
    'colour',
    'input_data',
    'max_cost',
    'priority',
    'task_type',
  ])
  expect(detail).toMatch(/\(and 4 more\)$/)
})

test('a field of the body does not go into the query', async () => {
  const answer = await market.call('POST /api/wallet/deposit?amount=5', { token: alice.token, body: {} })
  expect(outcome(answer)).toBe('400 invalid_request')
  expect((answer.body as Problem).detail).toContain('amount')
})

test('an unknown path is told from a method that a path does not take', async () => {
  expect((await problemOf(await fetch(`${market.url}/api/nothing`)))[0]).toBe('404 route_not_found')
  expect((await problemOf(await fetch(`${market.url}/`, { method: 'PUT' })))[0]).toBe('404 route_not_found')
  const response = await fetch(`${market.url}/api/wallet/deposit?x=1`, { method: 'DELETE' })
  expect(response.headers.get('allow')).toBe('POST')
  expect((await problemOf(response))[0]).toBe('405 method_not_allowed')
  const tasks = await fetch(`${market.url}/api/tasks/`, { method: 'PATCH' })
  expect(tasks.headers.get('allow')!.split(', ').sort()).toEqual(['GET', 'POST'])
  expect(tasks.status).toBe(405)
})

test('a trailing slash makes no difference', async () => {
  for (const path of ['/api/tasks', '/api/tasks/', '/api/wallet', '/api/wallet/'])
    expect(outcome(await market.call(`GET ${path}`, { token: alice.token }))).toBe('200')
})

test('an id of the wrong shape is refused before anything is looked up', async () => {
  for (const id of ['1', 'gpu_1', `user_${'0'.repeat(26)}`, '%00', 'x'.repeat(400)])
    expect(outcome(await market.call(`GET /api/tasks/${id}`, { token: alice.token }))).toBe('400 invalid_request')
})

test('a header that is no bearer token is refused, also on a public endpoint', async () => {
  for (const authorization of ['Basic YTpi', 'Bearer', 'Bearer a b', 'token'])
    expect(outcome(await market.call('GET /api/gpus/', { headers: { authorization } }))).toBe('401 unauthenticated')
})

test('every reply says that it is what it says it is', async () => {
  const response = await fetch(`${market.url}/api/health`)
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'application/json; charset=utf-8',
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'x-frame-options': 'DENY',
  })
})

test('a reply that does not fit its own schema is a fault of the market', async () => {
  const app = await createHttpServer(market.context)
  const broken = route(api.ledger.head, async () => ({ head: null, public_key: '', transfers: -1, sum: '0' }))
  mountRoutes(app, market.context, { routes: [broken], authenticate: () => Promise.reject(new Error('nobody')) })
  const reply = await app.inject({ url: '/api/ledger/head' })
  expect([reply.statusCode, reply.json<Problem>().code]).toEqual([500, 'internal_error'])
  expect(reply.body).not.toContain('transfers')
})

test('limits on calls are told with the time after which it goes on', async () => {
  const limits = { ...market.context.config.limits, callsPerMinuteMax: 3 }
  const small = await startMarket({ limits })
  const user = await small.person()
  const call = () => small.call('GET /api/wallet/', { token: user.token })
  const outcomes = []
  for (let count = 0; count < 4; count++) outcomes.push(await call())
  expect(outcomes.map(outcome)).toEqual(['200', '200', '200', '429 rate_limited'])
  expect(Number(outcomes[3]!.headers.get('retry-after'))).toBeGreaterThan(0)
  await small.close()
})
