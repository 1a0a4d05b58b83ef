import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Model } from '@orbyte/protocol'
import { afterAll, beforeEach, expect, test } from 'vitest'
import type { Clock } from '../clock.ts'
import { systemClock } from '../system-clock.ts'
import { createModelCache, type ModelCacheOptions } from './model-cache.ts'

const content = randomBytes(300_000)
const sha256 = createHash('sha256').update(content).digest('hex')

type Answer = (request: IncomingMessage, response: ServerResponse) => void
let answers: Answer[] = []
let ranges: (string | undefined)[] = []
const server = createServer((request, response) => {
  ranges.push(request.headers.range)
  const answer = answers.shift() ?? serveRange
  answer(request, response)
}).listen(0, '127.0.0.1')
await once(server, 'listening')
const serverUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

let dataFolder = ''
const folders: string[] = []
beforeEach(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'orbyte-models-'))
  folders.push(dataFolder)
  answers = []
  ranges = []
})
afterAll(async () => {
  server.closeAllConnections()
  server.close()
  await Promise.all(folders.map((folder) => rm(folder, { recursive: true })))
})

test('a file is downloaded once, checked, and then used from the disk', async () => {
  const progress: number[] = []
  const cache = cacheOf()
  const local = await cache.fetchModel(modelOf(), {
    signal: never(),
    onProgress: (received) => progress.push(received),
  })
  expect(local).toEqual({
    name: 'small',
    format: 'gguf',
    files: { weights: join(dataFolder, 'models', sha256) },
    promptStyle: 'chat_template',
    contextTokens: 2_048,
  })
  expect(await readFile(local.files['weights']!)).toEqual(content)
  expect(progress.at(-1)).toBe(content.length)
  expect(progress).toEqual([...progress].sort((first, second) => first - second))

  progress.length = 0
  await cache.fetchModel(modelOf(), { signal: never(), onProgress: (received) => progress.push(received) })
  expect(progress).toEqual([])
  await fetchFrom(cache)
  await fetchFrom(cacheOf())
  expect(ranges).toHaveLength(1)
})

test('a download goes on where the connection was cut', async () => {
  holdAfter(100_000)
  let hasBeenCut = false
  const cutOnce = () => {
    if (!hasBeenCut) server.closeAllConnections()
    hasBeenCut = true
  }
  await cacheOf().fetchModel(modelOf(), { signal: never(), onProgress: cutOnce })
  expect(ranges).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]\d*-$/)])
  expect(await readdir(join(dataFolder, 'models'))).toEqual([sha256])
})

test('what an earlier process left behind is gone on with', async () => {
  await leavePart(content.subarray(0, 123_456))
  await fetchFrom(cacheOf())
  expect(ranges).toEqual(['bytes=123456-'])
})

test('a model’s URL that leads into the owner’s own network is not fetched', async () => {
  const model = modelOf()
  const { port } = new URL(serverUrl)
  const files = [{ ...model.files[0]!, url: `http://localhost:${port}/weights` }]
  const fetched = cacheOf().fetchModel({ ...model, files }, { signal: never(), onProgress: () => {} })
  await expect(fetched).rejects.toMatchObject({ code: 'model_unavailable', message: expect.stringContaining('public') })
  expect(ranges).toEqual([])
})

test('a server that knows no ranges sends the file from its start', async () => {
  await leavePart(content.subarray(0, 1_000))
  answers = [(_request, response) => void response.end(content)]
  await fetchFrom(cacheOf())
  expect(ranges).toEqual(['bytes=1000-'])
})

test('a beginning of another file costs a second download, not a wrong model', async () => {
  await leavePart(randomBytes(1_000))
  await expect(fetchFrom(cacheOf())).rejects.toMatchObject({ code: 'model_unavailable', fault: 'provider' })
  await fetchFrom(cacheOf())
})

test('a range that the server cannot serve starts the file anew', async () => {
  await leavePart(content.subarray(0, 1_000))
  answers = [(_request, response) => void response.writeHead(416).end()]
  await fetchFrom(cacheOf())
  expect(ranges).toEqual(['bytes=1000-', undefined])
})

test('a corrupt file is deleted and named', async () => {
  answers = [(_request, response) => void response.end(randomBytes(content.length))]
  await expect(fetchFrom(cacheOf())).rejects.toMatchObject({
    code: 'model_unavailable',
    fault: 'provider',
    message: expect.stringContaining('SHA-256'),
  })
  expect(await readdir(join(dataFolder, 'models'))).toEqual([])
})

test('a file that is larger than the catalogue says is cut off', async () => {
  answers = [(_request, response) => void response.end(Buffer.concat([content, content]))]
  await expect(fetchFrom(cacheOf())).rejects.toMatchObject({ message: expect.stringContaining('larger than') })
})

test('those who want one file share its download', async () => {
  const cache = cacheOf()
  const progress: number[] = []
  const onProgress = (received: number) => progress.push(received)
  await Promise.all([fetchFrom(cache), cache.fetchModel(modelOf(), { signal: never(), onProgress }), fetchFrom(cache)])
  expect(ranges).toHaveLength(1)
  expect(progress.at(-1)).toBe(content.length)
})

test('who leaves a shared download leaves the others to it', async () => {
  const release = holdAfter(1_000)
  const cache = cacheOf()
  const leave = new AbortController()
  const stays = fetchFrom(cache)
  const leaves = cache.fetchModel(modelOf(), { signal: leave.signal, onProgress: () => leave.abort() })
  await expect(leaves).rejects.toMatchObject({ code: 'cancelled' })
  release()
  await stays
  expect(ranges).toHaveLength(1)
})

test('a download that all have left is stopped, and can be taken up again', async () => {
  holdAfter(1_000)
  const cache = cacheOf()
  const leave = new AbortController()
  const leaves = cache.fetchModel(modelOf(), { signal: leave.signal, onProgress: () => leave.abort() })
  await expect(leaves).rejects.toMatchObject({ code: 'cancelled' })
  await fetchFrom(cache)
  expect(ranges).toHaveLength(2)
  expect(ranges[1]).toMatch(/^bytes=\d+-$/)
})

test.each([404, 403])('status %i is told at once', async (status) => {
  answers = [(_request, response) => void response.writeHead(status).end()]
  await expect(fetchFrom(cacheOf())).rejects.toMatchObject({ message: expect.stringContaining(String(status)) })
  expect(ranges).toHaveLength(1)
})

test('a server in trouble is asked a few times, with longer and longer pauses', async () => {
  const pauses: number[] = []
  answers = Array.from({ length: 9 }, () => (_request: IncomingMessage, response: ServerResponse) => {
    response.writeHead(503).end()
  })
  const run = fetchFrom(cacheOf({ clock: clockWithoutPauses(pauses) }))
  await expect(run).rejects.toMatchObject({ code: 'model_unavailable', message: expect.stringContaining('503') })
  expect(ranges).toHaveLength(4)
  expect(pauses).toEqual([1_000, 2_000, 4_000])
})

test('a disk with too little room is told before anything is fetched', async () => {
  const huge = modelOf({ size_bytes: Number.MAX_SAFE_INTEGER })
  const run = cacheOf().fetchModel(huge, { signal: never(), onProgress: () => {} })
  await expect(run).rejects.toMatchObject({ code: 'model_unavailable', message: expect.stringContaining('too full') })
  expect(ranges).toEqual([])
})

test('a file that is in a models folder is used in place', async () => {
  const models = await mkdtemp(join(tmpdir(), 'orbyte-bundled-'))
  folders.push(models)
  await mkdir(join(models, 'small'))
  await writeFile(join(models, 'small', 'small.gguf'), content)
  const local = await fetchFrom(cacheOf({ modelFolders: [models] }))
  expect(local.files).toEqual({ weights: join(models, 'small', 'small.gguf') })
  expect(ranges).toEqual([])
  await writeFile(join(models, 'small', 'small.gguf'), randomBytes(content.length))
  const replaced = await fetchFrom(cacheOf({ modelFolders: [models] }))
  expect(replaced.files).toEqual({ weights: join(dataFolder, 'models', sha256) })
})

test.each(['/downloads/..%2f..%2fsecret/small.gguf', 'file:///etc/passwd', 'http://['])(
  'an address like %s finds nothing outside the models folder',
  async (url) => {
    const models = join(dataFolder, 'deep', 'models')
    await mkdir(join(dataFolder, 'secret'), { recursive: true })
    await writeFile(join(dataFolder, 'secret', 'small.gguf'), content)
    answers = [(_request, response) => void response.writeHead(404).end()]
    const run = cacheOf({ modelFolders: [models] }).fetchModel(modelOf({ url }), {
      signal: never(),
      onProgress: () => {},
    })
    await expect(run).rejects.toMatchObject({ code: 'model_unavailable' })
  },
)

function cacheOf(overrides: Partial<ModelCacheOptions> = {}) {
  return createModelCache({
    dataFolder,
    modelFolders: [],
    serverUrl,
    fetch,
    clock: systemClock,
    ...overrides,
  })
}

async function fetchFrom(cache: ReturnType<typeof cacheOf>) {
  return await cache.fetchModel(modelOf(), { signal: never(), onProgress: () => {} })
}

/** What a download that was cut has left on the disk. */
async function leavePart(bytes: Uint8Array): Promise<void> {
  await mkdir(join(dataFolder, 'models'))
  await writeFile(join(dataFolder, 'models', `${sha256}.part`), bytes)
}

function modelOf(file: Partial<Model['files'][number]> = {}): Model {
  const weights = { name: 'weights', url: '/downloads/models/small/small.gguf', sha256, size_bytes: content.length }
  return {
    name: 'small',
    title: 'Small',
    description: '',
    task_types: ['text_generation'],
    format: 'gguf',
    files: [{ ...weights, ...file }],
    parameters: 1,
    context_tokens: 2_048,
    prompt_style: 'chat_template',
    vram_gb: 0.1,
    licence: 'MIT',
    origin: 'random',
    deterministic: true,
    demo: true,
  }
}

function serveRange(request: IncomingMessage, response: ServerResponse): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
  const status = from > 0 ? 206 : 200
  response.writeHead(status, { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` })
  response.end(content.subarray(from))
}

/** The next answer sends so many bytes and waits until it is released. */
function holdAfter(bytes: number): () => void {
  const held = new AbortController()
  answers.push((_request, response) => {
    response.writeHead(200, { 'content-length': content.length })
    response.write(content.subarray(0, bytes))
    held.signal.addEventListener('abort', () => response.end(content.subarray(bytes)))
  })
  return () => held.abort()
}

/** Pauses between tries are over at once; the long wait for a silent server never is. */
function clockWithoutPauses(pauses: number[]): Clock {
  return {
    now: systemClock.now,
    async sleep(ms, signal) {
      if (ms >= 60_000) return await systemClock.sleep(ms, signal)
      pauses.push(ms)
    },
  }
}

function never(): AbortSignal {
  return new AbortController().signal
}
