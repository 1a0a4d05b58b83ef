import { type Endpoint, fieldPlace } from '@orbyte/protocol'
import { OrbyteError } from './orbyte-error.ts'

/** What of an endpoint a client needs to call it. */
export type Operation = Pick<Endpoint, 'method' | 'path' | 'reply' | 'idempotent'>
export type HttpRequest = {
  url: URL
  init: Omit<RequestInit, 'headers'> & { headers: Record<string, string> }
  name: string
}
type Fields = Readonly<Record<string, unknown>>

/** Puts each input field where the contract says it travels. */
export function requestOf(endpoint: Operation, fields: Fields, baseUrl: string): HttpRequest {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined)
  const at = (place: 'path' | 'query' | 'body') => given.filter(([field]) => fieldPlace(endpoint, field) === place)
  const url = new URL(joinUrl(baseUrl, pathOf(endpoint, fields)))
  for (const [field, value] of at('query')) url.searchParams.set(field, String(value))
  const init: HttpRequest['init'] = { method: endpoint.method, headers: { accept: accepts[endpoint.reply] } }
  const body = at('body')
  if (endpoint.method !== 'GET' && endpoint.method !== 'DELETE' && body.length > 0) {
    init.headers['content-type'] = 'application/json'
    init.body = JSON.stringify(Object.fromEntries(body))
  }
  return { url, init, name: `${endpoint.method} ${url.origin}${url.pathname}` }
}

const accepts = {
  json: 'application/json',
  'event-stream': 'text/event-stream',
  text: 'text/plain',
  bytes: '*/*',
  'byte-stream': '*/*',
} as const

/** A market may live below a path of its host: http://example.org/orbyte + /api/health. */
function joinUrl(baseUrl: string, path: string): string {
  return baseUrl.replace(/\/+$/, '') + path
}

function pathOf(endpoint: Operation, fields: Fields): string {
  return endpoint.path.replace(/\{(\w+)\}/g, (_match, field: string) => {
    const text = String(fields[field] ?? '')
    // A URL drops "." and ".." even when they are escaped, so that the call would reach another endpoint.
    if (text === '' || text === '.' || text === '..') throw pathFieldError(endpoint, field)
    return encodeURIComponent(text)
  })
}

function pathFieldError(endpoint: Operation, field: string): OrbyteError {
  const detail = `${field}: it is part of ${endpoint.path}, so it cannot be empty or dots.`
  return new OrbyteError({ code: 'invalid_request', detail, errors: [{ field, message: 'empty or dots' }] })
}

/** The path fields of a URL that `endpoint` has given out, or null if it is not one of its. */
export function fieldsOfPath(endpoint: Pick<Endpoint, 'path'>, url: string): Record<string, string> | null {
  const pattern = endpoint.path.replace(/\{(\w+)\}/g, '(?<$1>[^/?#]+)')
  const groups = new RegExp(`${pattern}$`).exec(url)?.groups
  return groups
    ? Object.fromEntries(Object.entries(groups).map(([field, text]) => [field, decodeURIComponent(text)]))
    : null
}
