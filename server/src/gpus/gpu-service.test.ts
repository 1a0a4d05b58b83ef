import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openSqlite } from '../db/sqlite-database.ts'
import { agentId, orb, whole } from './fixture-gpus.ts'
import { readGpu } from './gpu-store.ts'
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
      const waitMs = market.registry.get(id)!.coolDownUntilMs - market.clock.now()
      waitsS.push(waitMs / 1_000)
      market.clock.advance(waitMs)
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
    expect(market.registry.get(id)).toMatchObject({ failuresInARow: 1, coolDownUntilMs: market.clock.now() + 30_000 })
  })

  test('what fails together, on shares of one GPU, is one failure in a row', async () => {
    const id = await connected()
    for (let share = 1; share <= 3; share++) await end(id, 'provider_failed')
    const counted = { tasksFailed: 3, failuresInARow: 1, coolDownUntilMs: startMs + 30_000 }
    expect(market.registry.get(id)).toMatchObject(counted)
    expect(await market.database.read((reader) => readGpu(reader, id))).toMatchObject(counted)
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
    market.registry.reserve('att_1', whole(id))
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
    before.registry.setLiveness(agentId(1), 'unknown', false)
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
