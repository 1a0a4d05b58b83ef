import { mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../clock.ts'
import { AttemptError } from '../executors/executor.ts'
import { type ExpectedFile, hashFile } from './file-check.ts'
import { PrivateAddressError, type PublicFetch } from './public-fetch.ts'

export type DownloadRequest = ExpectedFile & {
  readonly url: string
  /** Where the file goes when it is whole. Until then it grows beside it, with ".part" at its end. */
  readonly target: string
}

export type DownloadOptions = {
  readonly fetch: PublicFetch
  readonly clock: Clock
  readonly signal: AbortSignal
  onProgress(receivedBytes: number, totalBytes: number): void
}

/** Tries in a row that brought no new byte, before it gives up. What is there by then stays for the next time. */
const fruitlessTriesMax = 4
const firstPauseMs = 500
/** A server that sends nothing for so long is taken for dead. */
const silenceMsMax = 60_000
const progressMs = 250

/**
 * Fetches a file, going on where an earlier try was cut (HTTP Range), and checks its SHA-256 at the end. A file that is
 * not the expected one is deleted. Every failure is an AttemptError `model_unavailable`, the provider's.
 */
export async function downloadFile(request: DownloadRequest, options: DownloadOptions): Promise<void> {
  const part = `${request.target}.part`
  await mkdir(dirname(part), { recursive: true })
  await checkDiskSpace(request, part)
  await receiveAll(request, part, options)
  if ((await hashFile(part, options.signal)) !== request.sha256) {
    await rm(part, { force: true })
    throw unavailable(request, 'what came is not the expected file (its SHA-256 differs); it was deleted')
  }
  await rename(part, request.target)
}

async function receiveAll(request: DownloadRequest, part: string, options: DownloadOptions): Promise<void> {
  let fruitlessTries = 0
  while (true) {
    const before = await sizeOf(part)
    if (before === request.sizeBytes) return
    try {
      await receiveRest(request, part, options)
    } catch (error) {
      options.signal.throwIfAborted()
      if (error instanceof AttemptError) throw error
      if (error instanceof PrivateAddressError) throw unavailable(request, error.message)
      fruitlessTries = (await sizeOf(part)) > before ? 0 : fruitlessTries + 1
      if (fruitlessTries >= fruitlessTriesMax) throw unavailable(request, reasonOf(error))
      await options.clock.sleep(firstPauseMs * 2 ** fruitlessTries, options.signal)
    }
  }
}

/** One request. Rejects with an AttemptError where trying again cannot help. */
async function receiveRest(request: DownloadRequest, part: string, options: DownloadOptions): Promise<void> {
  const had = await sizeOf(part)
  const silence = new AbortController()
  const signal = AbortSignal.any([options.signal, silence.signal])
  const headers: Record<string, string> = had > 0 ? { range: `bytes=${had}-` } : {}
  const answer = await heard(options.clock, silence, options.fetch(request.url, { headers, signal }))
  const from = await startOf(answer, { request, part, had })
  if (answer.body === null) throw new Error('the answer is empty')

  const file = await open(part, from === 0 ? 'w' : 'a')
  try {
    let received = from
    let reportedAt = -Infinity
    const reader = answer.body.getReader()
    while (true) {
      const { done, value } = await heard(options.clock, silence, reader.read())
      if (done) break
      received += value.length
      if (received > request.sizeBytes) throw unavailable(request, `it is larger than ${request.sizeBytes} bytes`)
      await file.write(value)
      const now = options.clock.now()
      if (now - reportedAt < progressMs && received < request.sizeBytes) continue
      reportedAt = now
      options.onProgress(received, request.sizeBytes)
    }
    if (received < request.sizeBytes) throw new Error(`it was cut after ${received} of ${request.sizeBytes} bytes`)
  } catch (error) {
    if (isCode(error, 'ENOSPC')) throw unavailable(request, 'the disk is full')
    throw error
  } finally {
    silence.abort()
    await file.close()
    // What is too large, or grew from another file, is no beginning to go on from.
    if ((await sizeOf(part)) > request.sizeBytes) await rm(part, { force: true })
  }
}

type Beginning = { readonly request: DownloadRequest; readonly part: string; readonly had: number }

/** From which byte the answer's body goes on. */
async function startOf(answer: Response, { request, part, had }: Beginning): Promise<number> {
  if (answer.status === 200) return 0
  if (answer.status === 206 && answer.headers.get('content-range')?.startsWith(`bytes ${had}-`)) return had
  await answer.body?.cancel()
  if (answer.status === 206 || answer.status === 416) {
    await rm(part, { force: true })
    throw new Error('the server answers with another part of the file than was asked for')
  }
  const reason = `the server answers with status ${answer.status}`
  const mayPass = answer.status >= 500 || answer.status === 408 || answer.status === 429
  throw mayPass ? new Error(reason) : unavailable(request, reason)
}

/** Waits for a sign of life, but not for ever. */
async function heard<Result>(clock: Clock, silence: AbortController, sign: Promise<Result>): Promise<Result> {
  const arrived = new AbortController()
  const tooLong = clock.sleep(silenceMsMax, arrived.signal).then(
    () => silence.abort(new Error('the server has fallen silent')),
    () => {},
  )
  try {
    return await sign
  } finally {
    arrived.abort()
    await tooLong
  }
}

async function checkDiskSpace(request: DownloadRequest, part: string): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(part))
  const missing = request.sizeBytes - (await sizeOf(part)) - bavail * bsize
  if (missing <= 0) return
  const gigabytes = (missing / 1e9).toFixed(1)
  throw unavailable(request, `the disk is too full: ${gigabytes} GB more are needed in ${dirname(part)}`)
}

function unavailable({ url }: DownloadRequest, reason: string): AttemptError {
  return new AttemptError('model_unavailable', `The model file ${url} could not be fetched: ${reason}.`, 'provider')
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
