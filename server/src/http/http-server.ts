import { createHash } from 'node:crypto'
import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { compiled, type Endpoint, isTooDeep, problem, wireEncoder } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import { callerNetwork, clientAddress } from './client-address.ts'
import { errorHandler, notFoundHandler } from './problems.ts'
import type { Authenticate, Caller, Idempotency, Principal, Route } from './route.ts'

declare module 'fastify' {
  interface FastifyRequest {
    principal: Principal | null
  }
}

type HttpContext = Pick<Context, 'config' | 'log'>

/** Fastify with the contract's manners: problem documents, optional trailing slashes, form bodies, limits. */
export async function createHttpServer(context: HttpContext): Promise<FastifyInstance> {
  const app = Fastify({
    logger: false,
    bodyLimit: 1_000_000,
    requestTimeout: 60_000,
    // Of a socket on which nothing moves: longer than the copy of a database that a backup begins with.
    connectionTimeout: 360_000,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 500 },
    forceCloseConnections: true,
  })
  app.decorateRequest('principal', null)
  app.removeContentTypeParser('text/plain')
  app.setErrorHandler(errorHandler(context.log))
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(body as string))),
  )
  app.addHook('onRequest', (_request, reply, done) => {
    void reply.header('x-content-type-options', 'nosniff').header('referrer-policy', 'no-referrer')
    void reply.header('x-frame-options', 'DENY')
    done()
  })
  await app.register(rateLimit, {
    global: false,
    hook: 'preHandler',
    errorResponseBuilder: (_request, limit) =>
      problem('rate_limited', `Too many calls: at most ${limit.max} a minute here. Try again in ${limit.after}.`, {
        retry_after_s: Math.ceil(limit.ttl / 1_000),
      }),
  })
  app.setNotFoundHandler(notFoundHandler())
  return app
}

/** Mounts the features' routes. Access is checked here and nowhere else, as each endpoint declares it. */
export function mountRoutes(
  app: FastifyInstance,
  context: HttpContext,
  options: { routes: Route[]; authenticate: Authenticate },
) {
  for (const { endpoint, handle } of options.routes) {
    const encode = wireEncoder(endpoint.output)
    app.route({
      method: endpoint.method,
      url: endpoint.path.replace(/\{(\w+)\}/g, ':$1'),
      bodyLimit: endpoint.bodyBytesMax,
      config: { rateLimit: rateLimitOf(endpoint, context) },
      onRequest: async (request) => {
        request.principal = await admit(endpoint, request, options.authenticate)
      },
      handler: async (request, reply) => {
        const input = compiled(endpoint.input).parse(fieldsOf(endpoint, request))
        const output = await handle(input, callerOf(endpoint, request), reply)
        if (endpoint.reply !== 'json') return output
        return sendJson(reply.code(endpoint.status), encoded(endpoint, encode, output))
      },
    })
  }
}

type Encode = ReturnType<typeof wireEncoder>

/** A reply that does not fit its schema is a fault of the market, and not of the request. */
function encoded({ method, path }: Endpoint, encode: Encode, output: unknown): unknown {
  try {
    return encode(output)
  } catch (cause) {
    throw new Error(`the reply of ${method} ${path} does not fit its schema`, { cause })
  }
}

async function admit(
  endpoint: Endpoint,
  request: FastifyRequest,
  authenticate: Authenticate,
): Promise<Principal | null> {
  const header = request.headers.authorization
  const credential = header === undefined ? null : /^Bearer\s+(\S+)$/i.exec(header)?.[1]
  if (credential === undefined)
    throw problem('unauthenticated', 'The Authorization header must read "Bearer" and an access token or API key.')
  if (credential === null) {
    if (endpoint.access === 'public') return null
    throw problem(
      'unauthenticated',
      'Log in at POST /api/auth/token and send the access token as "Authorization: Bearer …".',
    )
  }
  // A public endpoint serves whoever comes; a stale token in the header must not stop a login.
  if (endpoint.access === 'public') return authenticate(credential).catch(() => null)
  const principal = await authenticate(credential)
  if (endpoint.access === 'admin' && principal.role !== 'admin')
    throw problem('forbidden', 'Only an administrator may do that.')
  if (endpoint.access === 'user' && principal.userId === null)
    throw problem('forbidden', 'The operator’s token only opens administration. Log in as a user.')
  return principal
}

function fieldsOf(endpoint: Endpoint, request: FastifyRequest): Record<string, unknown> {
  const inQuery = endpoint.method === 'GET' || endpoint.method === 'DELETE'
  if (inQuery) return { ...(request.query as object), ...(request.params as object) }
  const { body } = request
  if (request.headers['content-type']?.startsWith('application/x-www-form-urlencoded') && !endpoint.form)
    throw problem('unsupported_media_type', 'Send the body as application/json.')
  if (body !== undefined && body !== null && (typeof body !== 'object' || Array.isArray(body)))
    throw problem('invalid_request', 'The body must be a JSON object.')
  if (isTooDeep(body)) throw problem('malformed_json', 'The body is nested too deeply: at most 100 levels.')
  const [unexpected] = Object.keys(request.query as object)
  if (unexpected !== undefined)
    throw problem('invalid_request', `${unexpected}: this endpoint takes its fields in the body.`)
  return { ...body, ...(request.params as object) }
}

function callerOf(endpoint: Endpoint, request: FastifyRequest): Caller {
  return {
    userId: request.principal?.userId ?? '',
    role: request.principal?.role ?? 'user',
    sessionId: request.principal?.sessionId ?? null,
    userAgent: request.headers['user-agent']?.slice(0, 300) ?? null,
    idempotency: endpoint.idempotent ? idempotencyOf(endpoint, request) : null,
  }
}

function idempotencyOf(endpoint: Endpoint, request: FastifyRequest): Idempotency | null {
  const key = request.headers['idempotency-key']
  if (key === undefined) return null
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,200}$/.test(key))
    throw problem('idempotency_key_invalid', 'An Idempotency-Key is 1 to 200 printable characters without spaces.')
  const covered = JSON.stringify([request.params, request.body ?? null])
  return {
    key,
    endpoint: `${endpoint.method} ${endpoint.path}`,
    bodyHash: createHash('sha256').update(covered).digest('hex'),
  }
}

function rateLimitOf(endpoint: Endpoint, { config: { limits, trustedProxies } }: HttpContext) {
  const own = endpoint.callsPerMinuteMax
  const max = own === null ? limits.callsPerMinuteMax : own * limits.callLimitFactor
  if (max === 0) return false as const
  return {
    max,
    timeWindow: 60_000,
    groupId: own === null ? 'general' : endpoint.path,
    // Whoever may call without a token gains nothing by showing those of accounts that they have made.
    keyGenerator: ({ principal, raw }: FastifyRequest) =>
      (endpoint.access === 'public' ? null : principal?.userId) ?? callerNetwork(clientAddress(raw, trustedProxies)),
  }
}

function sendJson(reply: FastifyReply, document: unknown) {
  return reply.type('application/json; charset=utf-8').send(JSON.stringify(document))
}
