import { join } from 'node:path'
import type { Model } from '@orbyte/protocol'
import type { Clock } from '../clock.ts'
import { cancelReason } from '../executors/cancel-reason.ts'
import { AttemptError, type LocalModel } from '../executors/executor.ts'
import { type DownloadRequest, downloadFile } from './download.ts'
import { createFileCheck } from './file-check.ts'
import { createPublicFetch, type PublicFetch } from './public-fetch.ts'

export type ModelCacheOptions = {
  /** Downloads go to "models" in it, each under its SHA-256. */
  readonly dataFolder: string
  /**
   * Folders with model files that are used in place: the ones that come with the agent, and the owner's own. A file is
   * found by the end of its URL's path, "tinylm-q8_0.gguf" or "tinylm/tinylm-q8_0.gguf", and by nothing but its SHA-256
   * is it trusted.
   */
  readonly modelFolders: readonly string[]
  /** The market that the catalogue came from; its own files have a URL relative to it. */
  readonly serverUrl: string
  readonly fetch: typeof fetch
  readonly clock: Clock
}

export type FetchModelOptions = {
  readonly signal: AbortSignal
  /** Bytes of all files of the model together. Not called where all of them are here already. */
  onProgress(receivedBytes: number, totalBytes: number): void
}

/** Brings models to this machine and knows where they are. */
export interface ModelCache {
  /** Rejects with an AttemptError: `model_unavailable`, or what the signal was aborted with. */
  fetchModel(model: Model, options: FetchModelOptions): Promise<LocalModel>
}

export function createModelCache(options: ModelCacheOptions): ModelCache {
  const check = createFileCheck()
  const fetchPublic = createPublicFetch({ marketUrl: options.serverUrl, fetch: options.fetch })
  const downloads = new Map<string, SharedDownload>()

  async function findFile(file: ModelFile, signal: AbortSignal): Promise<string | null> {
    const expected = { sha256: file.sha256, sizeBytes: file.size_bytes }
    const inFolders = options.modelFolders.flatMap((folder) => pathEnds(file.url).map((end) => join(folder, end)))
    for (const path of [...inFolders, downloadPath(options, file)]) {
      if (await check.isExpected(path, expected, signal)) return path
    }
    return null
  }

  async function fetchFile(file: ModelFile, listener: Listener): Promise<{ path: string; isNew: boolean }> {
    const found = await findFile(file, listener.signal)
    if (found !== null) return { path: found, isNew: false }
    const target = downloadPath(options, file)
    // A download that is being given up is not joined, nor started again before it has let go of its file.
    while (downloads.get(file.sha256)?.isAbandoned()) await downloads.get(file.sha256)?.ended
    let download = downloads.get(file.sha256)
    if (download === undefined) {
      const url = URL.canParse(file.url, options.serverUrl) ? new URL(file.url, options.serverUrl) : null
      if (url === null || !/^https?:$/.test(url.protocol)) throw noWay(file)
      const request = { url: url.href, target, sha256: file.sha256, sizeBytes: file.size_bytes }
      download = startDownload(request, { fetch: fetchPublic, clock: options.clock })
      downloads.set(file.sha256, download)
      void download.ended.then(() => downloads.delete(file.sha256))
    }
    await joinDownload(download, listener)
    return { path: target, isNew: true }
  }

  return {
    async fetchModel(model, { signal, onProgress }) {
      const totalBytes = model.files.reduce((sum, file) => sum + file.size_bytes, 0)
      const files: Record<string, string> = {}
      let finishedBytes = 0
      try {
        for (const file of model.files) {
          const onFileProgress = (received: number) => onProgress(finishedBytes + received, totalBytes)
          const { path, isNew } = await fetchFile(file, { signal, onProgress: onFileProgress })
          files[file.name] = path
          finishedBytes += file.size_bytes
          // What was here already is nothing to wait for.
          if (isNew) onProgress(finishedBytes, totalBytes)
        }
      } catch (error) {
        throw signal.aborted ? cancelReason(signal) : error
      }
      const { name, format, prompt_style: promptStyle, context_tokens: contextTokens } = model
      return { name, format, files, promptStyle, contextTokens }
    },
  }
}

type ModelFile = Model['files'][number]
type Listener = { readonly signal: AbortSignal; onProgress(receivedBytes: number): void }

/** One download, and all who wait for it. It goes on as long as one of them does. */
type SharedDownload = {
  readonly finished: Promise<void>
  /** Resolves when it has finished or failed. */
  readonly ended: Promise<void>
  readonly listeners: Set<Listener>
  abandon(): void
  isAbandoned(): boolean
}

type DownloadTools = { readonly fetch: PublicFetch; readonly clock: Clock }

function startDownload(request: DownloadRequest, { fetch, clock }: DownloadTools): SharedDownload {
  const abandoned = new AbortController()
  const listeners = new Set<Listener>()
  const finished = downloadFile(request, {
    fetch,
    clock,
    signal: abandoned.signal,
    onProgress: (received) => listeners.forEach((listener) => listener.onProgress(received)),
  })
  const ended = finished.catch(() => {})
  return { finished, ended, listeners, abandon: () => abandoned.abort(), isAbandoned: () => abandoned.signal.aborted }
}

async function joinDownload(download: SharedDownload, listener: Listener): Promise<void> {
  const { signal } = listener
  signal.throwIfAborted()
  const left = new AbortController()
  download.listeners.add(listener)
  try {
    const gone = new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { signal: left.signal })
    })
    await Promise.race([download.finished, gone])
  } finally {
    left.abort()
    download.listeners.delete(listener)
    if (download.listeners.size === 0) download.abandon()
  }
}

function downloadPath({ dataFolder }: ModelCacheOptions, { sha256 }: ModelFile): string {
  return join(dataFolder, 'models', sha256)
}

/** "c", "b/c", "a/b/c" for a URL with the path /a/b/c. */
function pathEnds(url: string): string[] {
  const path = URL.canParse(url, 'http://market') ? new URL(url, 'http://market').pathname : ''
  const segments = path.split('/').map(decodeSegment)
  return segments.flatMap((_, index) => {
    const end = segments.slice(segments.length - 1 - index)
    return end.every((segment) => /^[\w .,+@=-]+$/.test(segment) && !/^\.+$/.test(segment)) ? [join(...end)] : []
  })
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return ''
  }
}

function noWay({ url }: ModelFile): AttemptError {
  const message = `The model file ${url} is not on this machine, and its address is not one to fetch it from.`
  return new AttemptError('model_unavailable', message, 'provider')
}
