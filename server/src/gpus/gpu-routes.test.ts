import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openSqlite } from '../db/sqlite-database.ts'
import { agentId, gpuId, orb } from './fixture-gpus.ts'
import { createGpuService } from './gpu-service.ts'
import { type GpuMarket, type Person, password, startGpuMarket, startMs } from './fixture-market.ts'

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
    task_types: [],
    models: [],
    agent_id: null,
    differences: [],
    specs: null,
    telemetry: null,
    tasks_completed: 0,
    tasks_failed: 0,
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
    market.registry.reserve(id, 'att_1')
    const drain = await market.call(`PUT /api/gpus/${id}`, { as: 'bob', body: { maintenance: true } })
    expect(drain.body).toMatchObject({ status: 'in_use', draining: true })
    market.registry.release(id, 'att_1')
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
  test('a GPU goes from the market, and its history stays', async () => {
    const id = await connected()
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
    market.registry.reserve(id, 'att_1')
    expect(await market.call(`DELETE /api/gpus/${id}`, { as: 'bob' })).toMatchObject({
      status: 409,
      body: { code: 'gpu_in_use' },
    })
    market.registry.release(id, 'att_1')
    expect(market.registry.reserve(id, 'att_2')).toBe(true)
  })
})

describe('reclaiming', () => {
  test('puts a GPU into maintenance and tells the scheduler which attempt has to stop', async () => {
    const id = await connected()
    const stopped: [string, string][] = []
    market.gpus.onReclaim((gpu, attemptId) => stopped.push([gpu.id, attemptId]))
    market.registry.reserve(id, 'att_1')
    const { body } = await market.call(`POST /api/gpus/${id}/reclaim`, { as: 'bob' })
    expect(body).toMatchObject({ status: 'in_use', draining: true })
    expect(stopped).toEqual([[id, 'att_1']])
  })

  test('an idle GPU is just in maintenance', async () => {
    const id = await connected()
    let told = 0
    market.gpus.onReclaim(() => told++)
    expect((await market.call(`POST /api/gpus/${id}/reclaim`, { as: 'bob' })).body).toMatchObject({
      status: 'maintenance',
    })
    expect(told).toBe(0)
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

describe('telemetry', () => {
  const at = (utilization_percent: number | null, temperature_celsius: number | null = null) => ({
    utilization_percent,
    vram_used_gb: null,
    temperature_celsius,
    power_watts: null,
  })

  test('is averaged by the minute and kept for 30 days', async () => {
    const id = await connected()
    market.registry.setTelemetry(id, at(10, 50))
    market.registry.setTelemetry(id, at(21))
    expect((await market.call(`GET /api/gpus/${id}`)).body).toMatchObject({ telemetry: at(21) })
    const items = async (query = '') => (await market.call(`GET /api/gpus/${id}/telemetry${query}`)).body.items
    await pass(60_000)
    market.registry.setTelemetry(id, at(99))
    await pass(60_000)
    const [first, second] = ['2026-03-01T12:00:00.000Z', '2026-03-01T12:01:00.000Z']
    expect(await items()).toEqual([
      { at: second, status: 'available', ...at(99) },
      { at: first, status: 'available', ...at(15.5, 50) },
    ])
    expect(await items('?since=2026-03-01T12:01:00Z')).toMatchObject([{ at: second }])
    expect(await market.call(`GET /api/gpus/${id}/telemetry?since=yesterday`)).toMatchObject({ status: 400 })
    await pass(31 * 24 * 3_600_000)
    await pass(60_000)
    expect(await items('?since=2026-01-01T00:00:00.000Z')).toEqual([])
  })

  test('a GPU that goes offline leaves a point that says so, once', async () => {
    const id = await connected()
    await pass(60_000)
    market.registry.setLiveness(agentId(1), 'dead', false)
    await pass(60_000)
    await pass(60_000)
    const { body } = await market.call(`GET /api/gpus/${id}/telemetry`)
    expect(body.items.map(({ at, status }) => [at, status])).toEqual([
      ['2026-03-01T12:02:00.000Z', 'offline'],
      ['2026-03-01T12:01:00.000Z', 'available'],
    ])
  })

  /** The recorder's write is under way when the clock has moved, and done when a later transaction is. */
  async function pass(timeMs: number) {
    market.clock.advance(timeMs)
    await market.database.transaction(async () => {})
    await market.call('GET /api/gpus')
  }
})

describe('how attempts end', () => {
  const end = (id: string, outcome: 'completed' | 'provider_failed') =>
    market.database.transaction((tx) => market.gpus.recordAttemptEnd(tx, id, { outcome, nowMs: market.clock.now() }))

  test('failures cool a GPU down for twice as long each time, an hour at most, and a success ends the row', async () => {
    const id = await connected()
    const waitsS: number[] = []
    for (let failure = 1; failure <= 9; failure++) {
      await end(id, 'provider_failed')
      waitsS.push((market.registry.get(id)!.coolDownUntilMs - startMs) / 1_000)
    }
    expect(waitsS).toEqual([30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600])
    await end(id, 'completed')
    expect(market.registry.get(id)).toMatchObject({
      tasksCompleted: 1,
      tasksFailed: 9,
      failuresInARow: 0,
      coolDownUntilMs: 0,
    })
    await end(id, 'provider_failed')
    expect(market.registry.get(id)).toMatchObject({ failuresInARow: 1, coolDownUntilMs: startMs + 30_000 })
  })

  test('an end that does not commit counts nothing', async () => {
    const id = await connected()
    const failing = market.database.transaction(async (tx) => {
      await market.gpus.recordAttemptEnd(tx, id, { outcome: 'provider_failed', nowMs: startMs })
      throw new Error('not this time')
    })
    await expect(failing).rejects.toThrow('not this time')
    await end(id, 'completed')
    expect(market.registry.get(id)).toMatchObject({ tasksFailed: 0, tasksCompleted: 1 })
  })
})

describe('when an account closes', () => {
  const close = () => market.call('POST /api/auth/close', { as: 'bob', body: { current_password: password } })

  test('its GPUs go with it, and nobody else’s', async () => {
    await connected()
    await register()
    const other = await register({}, 'alice')
    expect(await close()).toMatchObject({ status: 200 })
    expect((await market.call('GET /api/gpus')).body.items.map((gpu) => gpu.id)).toEqual([other])
  })

  test('it stays open while an attempt holds one of its GPUs', async () => {
    const id = await connected()
    market.registry.reserve(id, 'att_1')
    const { status, body } = await close()
    expect({ status, body }).toMatchObject({
      status: 409,
      body: { code: 'account_has_obligations', details: { gpu_ids: [id] } },
    })
    expect((await market.call('GET /api/gpus/mine', { as: 'bob' })).body.items).toMatchObject([
      { id, status: 'in_use' },
    ])
  })
})

test('the GPUs of a suspended owner are offline, also for a restarted market, until the suspension is lifted', async () => {
  const id = await connected()
  const status = async () => (await market.call(`GET /api/gpus/${id}`)).body.status
  const setStatus = (status: 'active' | 'suspended') =>
    market.database.transaction((tx) => market.users.setStatus(tx, market.bob, { status, reason: null }))
  await setStatus('suspended')
  expect(await status()).toBe('offline')
  const restarted = await createGpuService(market.context, { ...market, modelsOf: () => [] })
  expect(restarted.registry.get(id)).toMatchObject({ suspended: true })
  await restarted.stop()
  await setStatus('active')
  expect(await status()).toBe('available')
})

test('what is stored about a user’s GPUs is in the export, with the deleted ones', async () => {
  const deleted = await register({ name: 'gone' })
  market.clock.advance(1)
  await market.call(`DELETE /api/gpus/${deleted}`, { as: 'bob' })
  const kept = await register()
  await register({}, 'alice')
  const { body } = await market.call('GET /api/auth/export', { as: 'bob' })
  expect(body.gpus).toMatchObject([
    { id: deleted, name: 'gone', price_per_hour: '0.5', deleted_at: '2026-03-01T12:00:30.001Z' },
    { id: kept, name: 'Tower', deleted_at: null },
  ])
})

describe('after a restart', () => {
  let later: GpuMarket
  const database = openSqlite(':memory:')
  let ids: { backed: string; byHand: string; deleted: string }

  beforeAll(async () => {
    const before = await startGpuMarket({ database })
    const { gpus } = await before.report([{}, { model: 'NVIDIA H200', vram_mib: 143_771 }])
    const { body } = await before.call('POST /api/gpus', { as: 'bob', body: { ...tower, model: 'T4', vram_gb: 15 } })
    ids = { backed: gpus[0]!.gpu_id, deleted: gpus[1]!.gpu_id, byHand: body.id as string }
    await before.call(`DELETE /api/gpus/${ids.deleted}`, { as: 'bob' })
    await before.database.transaction((tx) =>
      before.gpus.recordAttemptEnd(tx, ids.backed, { outcome: 'provider_failed', nowMs: startMs }),
    )
    await before.stop()
    later = await startGpuMarket({ database, startMs: startMs + 5_000 })
  })
  afterAll(async () => {
    await later.stop()
    await database.close()
  })

  test('the market knows its GPUs and their cool-downs, and none is available before its agent is back', async () => {
    expect(later.registry.all().map(({ id }) => id)).toEqual([ids.backed, ids.byHand].sort())
    expect((await later.call(`GET /api/gpus/${ids.backed}`)).body).toMatchObject({
      status: 'offline',
      liveness: 'unknown',
    })
    expect((await later.call(`GET /api/gpus/${ids.byHand}`)).body).toMatchObject({ status: 'offline', liveness: null })
    expect(later.registry.get(ids.backed)).toMatchObject({
      failuresInARow: 1,
      coolDownUntilMs: startMs + 30_000,
      priceMicrosPerHour: orb(0.34),
    })
    expect((await later.report([{}])).gpus).toMatchObject([{ gpu_id: ids.backed }])
    expect((await later.call(`GET /api/gpus/${ids.backed}`)).body).toMatchObject({ status: 'available' })
  })
})
