import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { problem } from '@orbyte/protocol'
import type { FastifyReply } from 'fastify'
import type { BundledFile } from './model-catalogue.ts'

type Range = { readonly first: number; readonly last: number }

/** Sends the file, or the part that a `Range` header asks for. Its name is its content, so caches may keep it for good. */
export function sendModelFile(reply: FastifyReply, sha256: string, { path, sizeBytes }: BundledFile) {
  const { headers, method } = reply.request
  const etag = `"${sha256}"`
  void reply
    .header('etag', etag)
    .header('cache-control', 'public, max-age=31536000, immutable')
    .header('accept-ranges', 'bytes')
  if (headers['if-none-match']?.split(',').some((tag) => tag.trim() === etag)) return reply.code(304).send()
  const isRangeWanted = headers['if-range'] === undefined || headers['if-range'] === etag
  const range = isRangeWanted ? parseRange(headers.range, sizeBytes) : null
  if (range === 'unsatisfiable') {
    void reply.header('content-range', `bytes */${sizeBytes}`)
    throw problem('range_not_satisfiable', `The file has ${sizeBytes} bytes, and the Range begins after them.`)
  }
  const { first, last } = range ?? { first: 0, last: sizeBytes - 1 }
  if (range) void reply.code(206).header('content-range', `bytes ${first}-${last}/${sizeBytes}`)
  void reply.type('application/octet-stream').header('content-length', last - first + 1)
  return reply.send(method === 'HEAD' ? Readable.from([]) : createReadStream(path, { start: first, end: last }))
}

/** One range of bytes (RFC 9110, 14.2). Null: none is asked for, or in a way that a server may ignore, as several at once. */
export function parseRange(header: string | undefined, sizeBytes: number): Range | 'unsatisfiable' | null {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '') ?? []
  if (from === undefined || to === undefined || (from === '' && to === '')) return null
  if (from === '') {
    const lastBytes = Math.min(Number(to), sizeBytes)
    return lastBytes === 0 ? 'unsatisfiable' : { first: sizeBytes - lastBytes, last: sizeBytes - 1 }
  }
  const first = Number(from)
  if (to !== '' && Number(to) < first) return null
  if (first >= sizeBytes) return 'unsatisfiable'
  return { first, last: to === '' ? sizeBytes - 1 : Math.min(Number(to), sizeBytes - 1) }
}
