import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { agentId, orb } from './fixture-gpus.ts'
import { type GpuMarket, type Person, startGpuMarket } from './fixture-market.ts'

let market: GpuMarket
const started: GpuMarket[] = []
const start = async (options: Parameters<typeof startGpuMarket>[0] = {}) => {
  market = await startGpuMarket(options)
  started.push(market)
}
beforeEach(() => start())
afterEach(async () => {
  for (const each of started.splice(0)) {
    await each.stop()
    await each.database.close()
  }
})

const byHand = async (fields: object = {}, as: Person = 'bob') => {
  const body = { name: 'Tower', model: 'RTX 4090', vram_gb: 24, price_per_hour: '0.5', ...fields }
  const { body: gpu } = await market.call('POST /api/gpus', { as, body })
  return gpu.id as string
}
const view = async (gpuId: string) => (await market.call(`GET /api/gpus/${gpuId}`)).body
const disconnect = (agent: number) => market.registry.setLiveness(agentId(agent), 'dead', false)

describe('a device that nobody has registered', () => {
  test('becomes a GPU, named after its machine, at the starting price of its kind', async () => {
    const { gpus, refused } = await market.report([{}], { region: 'eu-central' })
    expect(refused).toEqual([])
    expect(gpus).toEqual([
      {
        uuid: 'GPU-1',
        gpu_id: expect.stringMatching(/^gpu_/),
        name: 'NVIDIA GeForce RTX 4090 on box',
        price_per_hour: orb(0.34),
        maintenance: false,
        cool_down_ms: 0,
        on_trial: false,
      },
    ])
    expect(await view(gpus[0]!.gpu_id)).toMatchObject({
      status: 'available',
      liveness: 'alive',
      vram_gb: 23.99,
      region: 'eu-central',
      price_per_hour: '0.34',
      differences: [],
      owner_id: market.bob,
      agent_id: agentId(1),
      last_seen_at: '2026-03-01T12:00:30.000Z',
      specs: { driver: '550.54' },
    })
    expect((await market.call(`GET /api/gpus/${gpus[0]!.gpu_id}/prices`)).body.items).toEqual([
      { price_per_hour: '0.34', changed_at: '2026-03-01T12:00:30.000Z' },
    ])
  })

  test('starts at its owner’s minimum where that is more than what is usual', async () => {
    const limits = { task_types: null, models: null, min_price_per_hour: orb(0.5) }
    const { gpus } = await market.report([{ limits }])
    expect(gpus[0]).toMatchObject({ price_per_hour: orb(0.5) })
  })

  test('takes the name and the price that its agent gives it', async () => {
    const { gpus } = await market.report([{ name: ' Left card ', price_per_hour: orb(0.2) }])
    expect(gpus[0]).toMatchObject({ name: 'Left card', price_per_hour: orb(0.2) })
  })

  test('is numbered where the machine has several of its kind', async () => {
    const { gpus } = await market.report([{}, {}, { model: 'NVIDIA H200', vram_mib: 143_771 }])
    expect(gpus.map(({ name }) => name)).toEqual([
      'NVIDIA GeForce RTX 4090 #1 on box',
      'NVIDIA GeForce RTX 4090 #2 on box',
      'NVIDIA H200 on box',
    ])
  })

  test('stays the same GPU when what tasks can have of it changes, and is found by the GB that it is sold as', async () => {
    const [first] = (await market.report([{}])).gpus
    const [again] = (await market.report([{ usable_vram_mib: 23_600, process_vram_mib: 610 }])).gpus
    expect(again!.gpu_id).toBe(first!.gpu_id)
    expect(await view(first!.gpu_id)).toMatchObject({ vram_gb: 23.99, usable_vram_gb: 23, differences: [] })
    const found = async (minVram: number) => (await market.call(`GET /api/gpus?min_vram=${minVram}`)).body
    expect(await found(24)).toMatchObject({ items: [{ id: first!.gpu_id }] })
    expect(await found(26)).toMatchObject({ items: [] })
  })

  test('is refused beyond what an account may have', async () => {
    await start({ gpusPerOwnerMax: 2 })
    await byHand({ model: 'H200', vram_gb: 141 })
    const { gpus, refused } = await market.report([{}, {}])
    expect(gpus).toHaveLength(1)
    expect(refused).toMatchObject([{ uuid: 'GPU-2', code: 'too_many_gpus' }])
    expect(
      (
        await market.call('POST /api/gpus', {
          as: 'bob',
          body: { name: 'x', model: 'y', vram_gb: 1, price_per_hour: '1' },
        })
      ).body,
    ).toMatchObject({
      status: 409,
      code: 'too_many_gpus',
    })
  })
})

describe('a GPU that was registered by hand', () => {
  test('is offline until a device of its model and VRAM is reported, then is that device', async () => {
    const id = await byHand()
    expect(await view(id)).toMatchObject({ status: 'offline', liveness: null, agent_id: null })
    const { gpus } = await market.report([{}], { region: 'eu' })
    expect(gpus).toMatchObject([{ gpu_id: id, name: 'Tower', price_per_hour: orb(0.5) }])
    expect(await view(id)).toMatchObject({
      status: 'available',
      model: 'NVIDIA GeForce RTX 4090',
      vram_gb: 23.99,
      region: 'eu',
      differences: [],
    })
  })

  test('says where what was registered differs from what was detected', async () => {
    const id = await byHand({ vram_gb: 23 })
    await market.report([{}])
    expect(await view(id)).toMatchObject({ vram_gb: 23.99, differences: ['registered as 23 GiB, detected 23.99 GiB'] })
  })

  test('binds to one device only, the oldest first', async () => {
    const older = await byHand({ name: 'older' })
    market.clock.advance(1_000)
    const younger = await byHand({ name: 'younger' })
    const { gpus } = await market.report([{}, {}, {}])
    expect(gpus.map(({ gpu_id }) => gpu_id).slice(0, 2)).toEqual([older, younger])
    expect(new Set(gpus.map(({ gpu_id }) => gpu_id)).size).toBe(3)
  })

  test('is not bound to another model, other VRAM or another owner’s device, and says why the VRAM kept it apart', async () => {
    const otherModel = await byHand({ model: 'RTX 4080' })
    const otherVram = await byHand({ vram_gb: 16 })
    const otherOwner = await byHand({}, 'alice')
    const { gpus } = await market.report([{}])
    expect([otherModel, otherVram, otherOwner]).not.toContain(gpus[0]!.gpu_id)
    const reason = `registered with 16 GiB, but your agent detected 23.99 GiB, which is more than 5 % apart: it became ${gpus[0]!.gpu_id}`
    expect(await view(otherVram)).toMatchObject({ status: 'offline', differences: [reason] })
    expect(await view(otherModel)).toMatchObject({ differences: [] })
    const { body } = await market.call(`PUT /api/gpus/${otherVram}`, { as: 'bob', body: { vram_gb: 24 } })
    expect(body).toMatchObject({ differences: [], vram_gb: 24 })
  })
})

describe('a device that is known', () => {
  test('stays the same GPU when its agent comes back, with what its owner has set', async () => {
    const { gpus } = await market.report([{}])
    const id = gpus[0]!.gpu_id
    await market.call(`PUT /api/gpus/${id}`, {
      as: 'bob',
      body: { name: 'Mine', price_per_hour: '0.9', maintenance: true },
    })
    disconnect(1)
    const again = await market.report([{ price_per_hour: orb(0.1), name: 'other' }])
    expect(again.gpus).toMatchObject([{ gpu_id: id, name: 'Mine', price_per_hour: orb(0.9), maintenance: true }])
  })

  test('moves to another agent of its owner once the old one is away', async () => {
    const { gpus } = await market.report([{}])
    const meanwhile = await market.report([{}], { agent: 2 })
    expect(meanwhile.gpus).toEqual([])
    expect(meanwhile.refused).toMatchObject([{ uuid: 'GPU-1', code: 'gpu_device_taken' }])
    disconnect(1)
    const later = await market.report([{}], { agent: 2 })
    expect(later.gpus).toMatchObject([{ gpu_id: gpus[0]!.gpu_id }])
    expect(await view(gpus[0]!.gpu_id)).toMatchObject({ agent_id: agentId(2), status: 'available' })
  })

  test('is refused to another owner, also when its agent is away', async () => {
    const { gpus } = await market.report([{}])
    disconnect(1)
    const { gpus: taken, refused } = await market.report([{}], { agent: 2, owner: 'alice' })
    expect(taken).toEqual([])
    expect(refused).toMatchObject([{ uuid: 'GPU-1', code: 'gpu_device_taken' }])
    expect(await view(gpus[0]!.gpu_id)).toMatchObject({ owner_id: market.bob, status: 'offline' })
  })

  test('becomes a new GPU after its owner deleted the old one', async () => {
    const { gpus } = await market.report([{}])
    disconnect(1)
    await market.call(`DELETE /api/gpus/${gpus[0]!.gpu_id}`, { as: 'bob' })
    const again = await market.report([{}])
    expect(again.gpus[0]!.gpu_id).not.toBe(gpus[0]!.gpu_id)
  })
})

test('two devices with one UUID are one GPU and one refusal', async () => {
  const { gpus, refused } = await market.report([{ uuid: 'GPU-1' }, { uuid: 'GPU-1' }])
  expect(gpus).toHaveLength(1)
  expect(refused).toMatchObject([{ uuid: 'GPU-1', code: 'gpu_device_taken' }])
})

test('emulated GPUs are refused unless the market admits them, and are then called what they are', async () => {
  const { gpus, refused } = await market.report([{ kind: 'emulated' }])
  expect(gpus).toEqual([])
  expect(refused).toMatchObject([{ uuid: 'GPU-1', code: 'emulated_gpus_refused' }])
  await start({ allowEmulatedGpus: true })
  const id = await byHand()
  expect((await market.report([{ kind: 'emulated' }])).gpus).toMatchObject([{ gpu_id: id }])
  expect(await view(id)).toMatchObject({ kind: 'emulated', status: 'available' })
})

test('a report that does not commit changes nothing', async () => {
  const before = await byHand()
  const report = {
    agentId: agentId(1),
    ownerId: market.bob,
    hostname: 'box',
    version: '0.1.0',
    region: null,
    devices: [],
  }
  await expect(
    market.database.transaction(async (tx) => {
      await market.gpus.bindDevices(tx, report)
      throw new Error('something else failed')
    }),
  ).rejects.toThrow('something else failed')
  expect(await view(before)).toMatchObject({ status: 'offline' })
  expect(market.registry.all()).toHaveLength(1)
})
