import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { type Endpoint, listEndpoints, problem, problemDocument, ProblemError } from '@orbyte/protocol'
import { ZodError } from 'zod'
import type { Log } from '../context.ts'
import { DatabaseFullError } from '../db/database.ts'
import { fieldMessage } from './field-messages.ts'

/** Turns whatever was thrown into a problem. What is not meant for the caller becomes `internal_error` and is logged. */
export function problemOf(error: unknown): ProblemError | null {
  if (error instanceof ProblemError) return error
  if (error instanceof ZodError) return invalidRequest(error)
  if (error instanceof DatabaseFullError)
    return problem(
      'database_full',
      'The market’s disk is full, so nothing was changed. Try again later; the operator has to make room.',
    )
  const { code, statusCode, message } = error as Partial<FastifyError>
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE')
    return problem(
      'body_too_large',
      'The body is larger than this endpoint accepts. Send less, or in several requests.',
    )
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return problem('unsupported_media_type', 'Send the body as application/json.')
  if (code === 'FST_ERR_CTP_EMPTY_JSON_BODY' || code === 'FST_ERR_CTP_INVALID_JSON_BODY')
    return problem('malformed_json', 'The body is not valid JSON. Check its quotes, commas and brackets.')
  if (statusCode === 403 || statusCode === 404) return problem('route_not_found', 'There is no such file here.')
  if (statusCode === 400 && message) return problem('malformed_json', message)
  return null
}

export function sendProblem(request: FastifyRequest, reply: FastifyReply, found: ProblemError) {
  if (found.status === 401) void reply.header('www-authenticate', 'Bearer')
  const retryAfterS = found.details?.retry_after_s
  if (typeof retryAfterS === 'number') void reply.header('retry-after', retryAfterS)
  return reply
    .code(found.status)
    .type('application/problem+json')
    .send(JSON.stringify({ ...problemDocument(found), request_id: request.id }))
}

export function errorHandler(log: Log) {
  return (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
    const found = problemOf(error)
    if (found) return sendProblem(request, reply, found)
    log.error(
      { error, request_id: request.id, method: request.method, path: request.routeOptions.url },
      'a request failed',
    )
    return sendProblem(
      request,
      reply,
      problem(
        'internal_error',
        `Something broke on our side. If it happens again, report it with request ${request.id}.`,
      ),
    )
  }
}

/** 405 with the allowed methods where the path exists, 404 otherwise. */
export function notFoundHandler() {
  const patterns = pathPatterns()
  return (request: FastifyRequest, reply: FastifyReply) => {
    const path = withoutSlashesAtEnd(request.url.split('?')[0]!)
    const methods = patterns.filter(({ pattern }) => pattern.test(path)).map(({ endpoint }) => endpoint.method)
    if (methods.length === 0)
      return sendProblem(
        request,
        reply,
        problem('route_not_found', `There is no ${path || '/'} here. See /api/docs for what there is.`),
      )
    void reply.header('allow', methods.join(', '))
    return sendProblem(
      request,
      reply,
      problem('method_not_allowed', `${path} takes ${methods.join(', ')}, not ${request.method}. See /api/docs.`),
    )
  }
}

/** `/\/+$/` would look at each of a row of slashes as often as there are slashes after it: what comes here is anybody's. */
function withoutSlashesAtEnd(path: string): string {
  let end = path.length
  while (path[end - 1] === '/') end--
  return path.slice(0, end)
}

function pathPatterns(): { endpoint: Endpoint; pattern: RegExp }[] {
  return listEndpoints().map(({ endpoint }) => ({
    endpoint,
    pattern: new RegExp(`^${endpoint.path.replace(/\/+$/, '').replace(/\{\w+\}/g, '[^/]+')}$`),
  }))
}

function invalidRequest(error: ZodError): ProblemError {
  const fields = error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => ({ field: [...issue.path, key].join('.'), message: 'there is no such field' }))
      : [{ field: issue.path.join('.'), message: fieldMessage(issue) }],
  )
  const [first] = fields
  const more = fields.length > 1 ? ` (and ${fields.length - 1} more)` : ''
  const sentence = first
    ? `${first.field ? `${first.field}: ` : ''}${first.message}${more}`
    : 'The request is not valid.'
  return new ProblemError('invalid_request', sentence, { details: undefined, fields })
}
