import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../config.ts'
import { agentId, gpuId, gpuRecord, reportedDevice, whole } from '../gpus/fixture-gpus.ts'
import { GpuRegistry } from '../gpus/gpu-registry.ts'
import { manualClock } from '../manual-clock.ts'
import { type Server, startServer } from '../server.ts'
import { loadCatalogue } from './model-catalogue.ts'
import { parseRange } from './model-file.ts'
import { createModelService } from './model-service.ts'

const config = loadConfig({ DATABASE_URL: ':memory:', PORT: '0', LOG_LEVEL: 'silent' })
let server: Server
beforeAll(async () => {
  server = await startServer(config)
})
afterAll(() => server.close())

type Listed = { name: string; gpus_connected: number; files: { url: string; sha256: string; size_bytes: number }[] }
const list = async (query = '') => {
  const reply = await fetch(`${server.url}/api/models${query}`)
  return { status: reply.status, body: (await reply.json()) as { items: Listed[]; code?: string } }
}
const tinylmWeights = async () => (await list()).body.items.find(({ name }) => name === 'tinylm')!.files[0]!
const sha256Of = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

describe('the catalogue', () => {
  test('is public, and can be asked for one task type', async () => {
    const all = await list()
    expect(all.status).toBe(200)
    expect(all.body.items.map(({ name }) => name)).toEqual(['tinylm', 'tinyimg', 'wordvec-100'])
    expect((await list('?task_type=embedding')).body.items.map(({ name }) => name)).toEqual(['wordvec-100'])
    expect(await list('?task_type=mining')).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
  })

  test('says how many connected GPUs could run each model, busy ones too', () => {
    const registry = new GpuRegistry(manualClock(0))
    const models = createModelService(loadCatalogue(config.modelsPath), registry)
    const counts = () => Object.fromEntries(models.list(undefined).map((model) => [model.name, model.gpus_connected]))
    expect(counts()).toEqual({ tinylm: 0, tinyimg: 0, 'wordvec-100': 0 })
    registry.put(gpuRecord({ id: gpuId(1) }))
    registry.put(gpuRecord({ id: gpuId(2), agentId: null, deviceUuid: null }))
    registry.connect(agentId(1), [{ gpuId: gpuId(1), device: reportedDevice() }])
    registry.reserve('att_1', whole(gpuId(1)))
    expect(counts()).toEqual({ tinylm: 1, tinyimg: 0, 'wordvec-100': 1 })
    registry.setLiveness(agentId(1), 'dead', false)
    expect(counts()).toEqual({ tinylm: 0, tinyimg: 0, 'wordvec-100': 0 })
  })
})

describe('a bundled file', () => {
  test('is downloaded whole, as the catalogue says it is', async () => {
    const { url, sha256, size_bytes } = await tinylmWeights()
    const reply = await fetch(server.url + url)
    const bytes = new Uint8Array(await reply.arrayBuffer())
    expect(reply.status).toBe(200)
    expect(bytes).toHaveLength(size_bytes)
    expect(sha256Of(bytes)).toBe(sha256)
    expect(reply.headers.get('content-length')).toBe(String(size_bytes))
    expect(reply.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
    expect(reply.headers.get('accept-ranges')).toBe('bytes')
  })

  test('is downloaded in parts that make up the whole', async () => {
    const { url, sha256, size_bytes } = await tinylmWeights()
    const parts: Buffer[] = []
    for (const range of ['bytes=0-999999', 'bytes=1000000-']) {
      const reply = await fetch(server.url + url, { headers: { range } })
      expect(reply.status).toBe(206)
      parts.push(Buffer.from(await reply.arrayBuffer()))
      expect(reply.headers.get('content-length')).toBe(String(parts.at(-1)!.length))
    }
    expect(parts[0]).toHaveLength(1_000_000)
    expect(sha256Of(Buffer.concat(parts))).toBe(sha256)
    const last = await fetch(server.url + url, { headers: { range: 'bytes=-1' } })
    expect(last.headers.get('content-range')).toBe(`bytes ${size_bytes - 1}-${size_bytes - 1}/${size_bytes}`)
    expect(await last.arrayBuffer()).toHaveProperty('byteLength', 1)
  })

  test('is not sent again to who has it, nor continued from another content', async () => {
    const { url, sha256 } = await tinylmWeights()
    const known = await fetch(server.url + url, { headers: { 'if-none-match': `"${sha256}"` } })
    expect(known.status).toBe(304)
    const range = { range: 'bytes=5-', 'if-range': '"another"' }
    const whole = await fetch(server.url + url, { headers: range })
    expect(whole.status).toBe(200)
    await whole.arrayBuffer()
  })

  test('a range behind its end is a problem that says how long it is', async () => {
    const { url, size_bytes } = await tinylmWeights()
    const reply = await fetch(server.url + url, { headers: { range: `bytes=${size_bytes}-` } })
    expect(reply.status).toBe(416)
    expect(reply.headers.get('content-range')).toBe(`bytes */${size_bytes}`)
    expect(await reply.json()).toMatchObject({ code: 'range_not_satisfiable' })
  })

  test('HEAD tells its size and sends nothing', async () => {
    const { url, size_bytes } = await tinylmWeights()
    const reply = await fetch(server.url + url, { method: 'HEAD' })
    expect(reply.status).toBe(200)
    expect(reply.headers.get('content-length')).toBe(String(size_bytes))
    expect(await reply.text()).toBe('')
  })

  test('only what the catalogue lists is there', async () => {
    const missing = await fetch(`${server.url}/api/models/files/${'00'.repeat(32)}`)
    expect([missing.status, await missing.json()]).toMatchObject([404, { code: 'not_found' }])
    const path = await fetch(`${server.url}/api/models/files/${encodeURIComponent('../catalogue.json')}`)
    expect([path.status, await path.json()]).toMatchObject([400, { code: 'invalid_request' }])
  })
})

test.each([
  [undefined, null],
  ['bytes=0-0', { first: 0, last: 0 }],
  ['bytes=2-', { first: 2, last: 9 }],
  ['bytes=2-100', { first: 2, last: 9 }],
  ['bytes=-3', { first: 7, last: 9 }],
  ['bytes=-30', { first: 0, last: 9 }],
  ['bytes=-0', 'unsatisfiable'],
  ['bytes=10-', 'unsatisfiable'],
  ['bytes=5-2', null],
  ['bytes=-', null],
  ['bytes=0-1,3-4', null],
  ['lines=0-1', null],
])('of ten bytes, the range %s is %j', (header, range) => {
  expect(parseRange(header, 10)).toEqual(range)
})
