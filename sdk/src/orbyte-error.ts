import type { ErrorCode, Problem } from '@orbyte/protocol'

/**
 * Every failure of a call. `code` is one of the contract's, or one of the client's own:
 *  - `unreachable`: no reply came (connection refused, reset, timed out)
 *  - `not_a_market`: a reply came, but not one that an Orbyte market gives
 */
export type OrbyteErrorCode = ErrorCode | 'unreachable' | 'not_a_market'

export type OrbyteErrorFields = {
  code: OrbyteErrorCode
  /** What happened and what to do next, for a person. */
  detail: string
  /** HTTP status; 0 if there was no reply. */
  status?: number
  /** The fields that do not fit, where the request was invalid. */
  errors?: Problem['errors']
  details?: Problem['details']
  request_id?: string
  /** Like "POST http://127.0.0.1:8000/api/tasks/". */
  request?: string
  cause?: unknown
}

export class OrbyteError extends Error {
  readonly code: OrbyteErrorCode
  readonly detail: string
  readonly status: number
  readonly errors: NonNullable<Problem['errors']>
  readonly details: NonNullable<Problem['details']>
  readonly request_id: string | null

  constructor(fields: OrbyteErrorFields) {
    super(page(fields), { cause: fields.cause })
    this.name = 'OrbyteError'
    this.code = fields.code
    this.detail = fields.detail
    this.status = fields.status ?? 0
    this.errors = fields.errors ?? []
    this.details = fields.details ?? {}
    this.request_id = fields.request_id ?? null
  }
}

/** What happened and what to do; which fields; which request. */
function page({ code, detail, status, errors, request_id, request }: OrbyteErrorFields): string {
  const fields = (errors ?? [])
    .filter(({ field }) => field !== '')
    .map(({ field, message }) => `  ${field}: ${message}`)
  const place = [request, status ? `${status} ${code}` : code].filter(Boolean).join(' → ')
  return [detail, ...fields, `(${place}${request_id ? `, request ${request_id}` : ''})`].join('\n')
}

/** The error of a reply with a status of 400 or more. `text` is its body. */
export function errorOfReply(reply: { status: number; text: string; request: string }): OrbyteError {
  const { status, text, request } = reply
  const problem = parseJson(text)
  if (isProblem(problem)) {
    const { code, detail, errors, details, request_id } = problem
    return new OrbyteError({ code: code as ErrorCode, detail, status, errors, details, request_id, request })
  }
  if (status === 502 || status === 503 || status === 504)
    return new OrbyteError({
      code: 'unavailable',
      detail: 'The market does not answer at the moment. Try again later.',
      status,
      request,
    })
  return notAMarket({ status, request })
}

function isProblem(value: unknown): value is Problem {
  const { code, detail, title } = (value ?? {}) as Partial<Problem>
  return [code, detail, title].every((field) => typeof field === 'string')
}

export function notAMarket({ status, request }: { status: number; request: string }): OrbyteError {
  const detail = 'What answers there is no Orbyte market. Check the URL.'
  return new OrbyteError({ code: 'not_a_market', detail, status, request })
}

export function unreachable(request: string, cause: unknown): OrbyteError {
  const { message, cause: inner } = cause as { message?: string; cause?: { code?: string; message?: string } }
  const why = inner?.code || inner?.message || message || 'no reply'
  const detail = `The market cannot be reached (${why}). Check the URL, your connection, and that the server runs.`
  return new OrbyteError({ code: 'unreachable', detail, request, cause })
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
