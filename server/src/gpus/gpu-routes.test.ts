import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { agentId, gpuId, whole } from './fixture-gpus.ts'
import { type GpuMarket, type Person, startGpuMarket } from './fixture-market.ts'

let market: GpuMarket
beforeEach(async () => {
  market = await startGpuMarket()
})
afterEach(async () => {
  await market.stop()
  await market.database.close()
})

const tower = { name: 'Tower', model: 'RTX 4090', vram_gb: 24, price_per_hour: '0.50' }
const register = async (fields: object = {}, as: Person = 'bob') =>
  (await market.call('POST /api/gpus/', { as, body: { ...tower, ...fields } })).body.id as string
const connected = async () => (await market.report([{}])).gpus[0]!.gpu_id

test('an owner registers a GPU by hand, and everybody sees it, offline', async () => {
  const { status, body } = await market.call('POST /api/gpus/', { as: 'bob', body: { ...tower, region: 'eu-central' } })
  expect(status).toBe(201)
  expect(body).toEqual({
    id: expect.stringMatching(/^gpu_/),
    owner_id: market.bob,
    name: 'Tower',
    model: 'RTX 4090',
    kind: 'gpu',
    vram_gb: 24,
    price_per_hour: '0.5',
    region: 'eu-central',
    status: 'offline',
    liveness: null,
    draining: false,
    sharing: false,
    free_milli: 1_000,
    task_types: [],
    models: [],
    agent_id: null,
    differences: [],
    specs: null,
    telemetry: null,
    usable_vram_gb: 24,
    tasks_completed: 0,
    tasks_failed: 0,
    tasks_slow: 0,
    audits_passed: 0,
    audits_failed: 0,
    health: 'good',
    cool_down_until: null,
    created_at: '2026-03-01T12:00:30.000Z',
    last_seen_at: null,
  })
  expect((await market.call(`GET /api/gpus/${String(body.id)}`)).body).toEqual(body)
  expect((await market.call('GET /api/gpus')).body).toEqual({ items: [body], next_cursor: null })
})

describe('what does not fit is refused and changes nothing', () => {
  const cases: [string, object, string][] = [
    ['a negative price', { ...tower, price_per_hour: '-1' }, 'price_per_hour'],
    ['no price', { ...tower, price_per_hour: '0' }, 'price_per_hour'],
    ['a price with seven decimals', { ...tower, price_per_hour: '0.1234567' }, 'price_per_hour'],
    ['a price that is a number', { ...tower, price_per_hour: 0.5 }, 'price_per_hour'],
    ['an unknown field', { ...tower, status: 'available' }, 'status'],
    ['negative VRAM', { ...tower, vram_gb: -24 }, 'vram_gb'],
    ['an empty name', { ...tower, name: '  ' }, 'name'],
    ['no model', { name: 'x', vram_gb: 1, price_per_hour: '1' }, 'model'],
  ]
  test.each(cases)('%s', async (_what, body, field) => {
    const reply = await market.call('POST /api/gpus/', { as: 'bob', body })
    expect(reply).toMatchObject({ status: 400, body: { code: 'invalid_request', errors: [{ field }] } })
    expect(market.registry.all()).toEqual([])
  })

  test('a caller without a login', async () => {
    expect(await market.call('POST /api/gpus/', { body: tower })).toMatchObject({ status: 401 })
    expect(await market.call('GET /api/gpus/mine')).toMatchObject({ status: 401 })
    expect(market.registry.all()).toEqual([])
  })
})

describe('an owner changes a GPU', () => {
  test('name, price, region and, before any agent has backed it, model and VRAM', async () => {
    const id = await register()
    const body = { name: 'Attic', model: 'RTX 3090', vram_gb: 23.5, price_per_hour: '0.22', region: 'eu' }
    const changed = await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body })
    expect(changed).toMatchObject({ status: 200, body })
    expect((await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: { region: null } })).body).toEqual({
      ...changed.body,
      region: null,
    })
  })

  test('model and VRAM stay as detected once an agent has backed it', async () => {
    const id = await connected()
    const refusal = { status: 409, body: { code: 'gpu_backed' } }
    expect(await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: { model: 'NVIDIA H200' } })).toMatchObject(
      refusal,
    )
    expect(await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: { name: 'x', vram_gb: 141 } })).toMatchObject(
      refusal,
    )
    const same = { model: 'NVIDIA GeForce RTX 4090', vram_gb: 23.99, name: 'Renamed' }
    expect(await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: same })).toMatchObject({
      status: 200,
      body: same,
    })
  })

  test('each new price is in its history, newest first, and nothing else is', async () => {
    const id = await register()
    market.clock.advance(60_000)
    await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: { price_per_hour: '0.75' } })
    market.clock.advance(60_000)
    await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: { price_per_hour: '0.75', name: 'Attic' } })
    expect((await market.call(`GET /api/gpus/${id}/prices`)).body.items).toEqual([
      { price_per_hour: '0.75', changed_at: '2026-03-01T12:01:30.000Z' },
      { price_per_hour: '0.5', changed_at: '2026-03-01T12:00:30.000Z' },
    ])
  })

  test('maintenance takes it from the market; while an attempt holds it, it drains', async () => {
    const id = await connected()
    market.registry.reserve('att_1', whole(id))
    const drain = await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: { maintenance: true } })
    expect(drain.body).toMatchObject({ status: 'in_use', draining: true })
    market.registry.release('att_1', whole(id))
    expect((await market.call(`GET /api/gpus/${id}`)).body).toMatchObject({ status: 'maintenance', draining: false })
    await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: { maintenance: false } })
    expect((await market.call(`GET /api/gpus/${id}`)).body).toMatchObject({ status: 'available' })
  })
})

describe('another user’s GPU', () => {
  test.each([
    ['PUT', '', { price_per_hour: '0.000001' }],
    ['DELETE', '', undefined],
    ['POST', '/reclaim', {}],
  ])('%s%s is forbidden and changes nothing', async (method, action, body) => {
    const id = await connected()
    const before = (await market.call(`GET /api/gpus/${id}`)).body
    const reply = await market.call(`${method} /api/gpus/${id}${action}`, { as: 'alice', body })
    expect(reply).toMatchObject({ status: 403, body: { code: 'forbidden' } })
    expect((await market.call(`GET /api/gpus/${id}`)).body).toEqual(before)
  })

  test('a GPU that does not exist is not found, by anybody', async () => {
    const missing = `/api/gpus/${gpuId(9)}`
    for (const route of [`GET ${missing}`, `GET ${missing}/prices`, `GET ${missing}/telemetry`])
      expect(await market.call(route)).toMatchObject({ status: 404, body: { code: 'not_found' } })
    expect(await market.call(`PUT ${missing}`, { as: 'bob', body: { name: 'x' } })).toMatchObject({ status: 404 })
    expect(await market.call(`DELETE ${missing}`, { as: 'bob' })).toMatchObject({ status: 404 })
    expect(await market.call('GET /api/gpus/not-an-id')).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    })
  })
})

describe('deleting', () => {
  test('a GPU goes from the market once its agent is away, and its history stays', async () => {
    const id = await connected()
    expect(await market.call(`DELETE /api/gpus/${id}`, { as: 'bob' })).toMatchObject({
      status: 409,
      body: { code: 'gpu_connected', detail: expect.stringContaining('Stop that agent') },
    })
    expect(market.registry.reserve('att_1', whole(id))).toBe(true)
    market.registry.release('att_1', whole(id))
    market.registry.setLiveness(agentId(1), 'unknown', false)
    expect(await market.call(`DELETE /api/gpus/${id}`, { as: 'bob' })).toMatchObject({
      status: 200,
      body: { ok: true },
    })
    expect(await market.call(`GET /api/gpus/${id}`)).toMatchObject({ status: 404 })
    expect((await market.call('GET /api/gpus/mine', { as: 'bob' })).body.items).toEqual([])
    expect((await market.call(`GET /api/gpus/${id}/prices`)).body.items).toHaveLength(1)
    await expect(market.gpus.assertOwner({ userId: market.bob, role: 'user' }, id)).resolves.toBeUndefined()
    expect(await market.call(`DELETE /api/gpus/${id}`, { as: 'bob' })).toMatchObject({ status: 404 })
  })

  test('a GPU that an attempt holds is refused, and can still be used', async () => {
    const id = await connected()
    market.registry.reserve('att_1', whole(id))
    expect(await market.call(`DELETE /api/gpus/${id}`, { as: 'bob' })).toMatchObject({
      status: 409,
      body: { code: 'gpu_in_use' },
    })
    market.registry.release('att_1', whole(id))
    expect(market.registry.reserve('att_2', whole(id))).toBe(true)
  })
})

describe('reclaiming', () => {
  test('puts a GPU into maintenance and tells the scheduler that what has it is to stop', async () => {
    const id = await connected()
    const stopped: [string, string | undefined][] = []
    market.gpus.onReclaim(async (gpu) => void stopped.push([gpu.id, gpu.holders[0]?.attemptId]))
    market.registry.reserve('att_1', whole(id))
    const { body } = await market.call(`POST /api/gpus/${id}/reclaim`, { as: 'bob' })
    expect(body).toMatchObject({ status: 'in_use', draining: true })
    expect(stopped).toEqual([[id, 'att_1']])
  })

  test('an idle GPU is just in maintenance', async () => {
    const id = await connected()
    expect((await market.call(`POST /api/gpus/${id}/reclaim`, { as: 'bob' })).body).toMatchObject({
      status: 'maintenance',
    })
  })
})

describe('the list', () => {
  test('is paged by a cursor, also in the query string, and refuses another’s', async () => {
    for (const price of ['0.3', '0.1', '0.2', '0.1', '0.1']) await register({ price_per_hour: price })
    const seen: Record<string, unknown>[] = []
    let cursor = ''
    do {
      const { body } = await market.call(`GET /api/gpus?limit=2&sort=price${cursor && `&cursor=${cursor}`}`)
      seen.push(...body.items)
      cursor = (body.next_cursor as string | null) ?? ''
    } while (cursor !== '')
    expect(seen.map((gpu) => gpu.price_per_hour)).toEqual(['0.1', '0.1', '0.1', '0.2', '0.3'])
    expect(new Set(seen.map((gpu) => gpu.id)).size).toBe(5)
    expect(await market.call('GET /api/gpus?cursor=abc')).toMatchObject({
      status: 400,
      body: { code: 'invalid_cursor' },
    })
    expect(await market.call('GET /api/gpus?limit=0')).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
    expect(await market.call('GET /api/gpus?colour=red')).toMatchObject({
      status: 400,
      body: { errors: [{ field: 'colour' }] },
    })
  })

  test('filters by what the query says', async () => {
    const big = await register({ model: 'NVIDIA H200', vram_gb: 141, price_per_hour: '3.5', region: 'us' })
    const backed = await connected()
    const ids = async (query: string) => (await market.call(`GET /api/gpus?${query}`)).body.items.map((gpu) => gpu.id)
    expect(await ids('min_vram=100')).toEqual([big])
    expect(await ids('max_price=0.34')).toEqual([backed])
    expect(await ids('model=h200')).toEqual([big])
    expect(await ids('available=true')).toEqual([backed])
    expect(await ids('status=offline&region=US')).toEqual([big])
    expect(await ids('task_type=text_generation')).toEqual([backed])
    expect(await ids(`owner=${market.alice}`)).toEqual([])
    expect(await ids('sort=-price')).toEqual([big, backed])
  })

  test('of one’s own has nobody else’s, newest first', async () => {
    const first = await register()
    market.clock.advance(1)
    const second = await register()
    await register({}, 'alice')
    const { body } = await market.call('GET /api/gpus/mine', { as: 'bob' })
    expect(body.items.map((gpu) => gpu.id)).toEqual([second, first])
  })
})
