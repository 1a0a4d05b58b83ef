import type { Problem } from '@orbyte/protocol'
import { type Config, defaultLimits, loadConfig } from './config.ts'
import { type ManualClock, manualClock } from './manual-clock.ts'
import { type Outside, type Server, startServer } from './server.ts'

export type Answer = { status: number; headers: Headers; body: unknown }
type Call = {
  token?: string | undefined
  body?: unknown
  form?: Record<string, string>
  headers?: Record<string, string>
}

/** A market of its own with everything in memory, on a free port, and a clock that the test moves. */
export type TestServer = Server & {
  clock: ManualClock
  /** `GET /api/auth/me`. */
  call(route: string, options?: Call): Promise<Answer>
  /** A registered user who has logged in. */
  newUser(email: string): Promise<TestUser>
}
export type TestUser = { id: string; email: string; password: string; token: string; refreshToken: string }

export const testPassword = 'correct horse battery'

export async function startTestServer(changes: Partial<Config> = {}, outside: Outside = {}): Promise<TestServer> {
  const clock = manualClock(Date.parse('2026-03-01T12:00:00.000Z'))
  // What the market asks of agents by itself, tests say when they want it.
  const config = loadConfig({ DATABASE_URL: ':memory:', PORT: '0', LOG_LEVEL: 'silent', AUDIT_BUDGET_PER_DAY: '0' })
  // Tests call more often than people do; what they say of throttling they say with limits of their own.
  const limits = { ...defaultLimits, callLimitFactor: 1_000, callsPerMinuteMax: 0 }
  const server = await startServer({ ...config, limits, ...changes }, { clock, ...outside })
  const call: TestServer['call'] = (route, options = {}) => callServer(server.url, route, options)
  return {
    ...server,
    clock,
    call,
    async newUser(email) {
      const registered = await call('POST /api/auth/register', { body: { email, password: testPassword } })
      if (registered.status !== 201) throw new Error(JSON.stringify(registered.body))
      const { access_token, refresh_token } = await logIn(call, email)
      const { id } = registered.body as { id: string }
      return { id, email, password: testPassword, token: access_token, refreshToken: refresh_token }
    },
  }
}

export async function logIn(call: TestServer['call'], username: string, password = testPassword) {
  const answer = await call('POST /api/auth/token', { body: { username, password } })
  if (answer.status !== 200) throw new Error(JSON.stringify(answer.body))
  return answer.body as { access_token: string; refresh_token: string; expires_in: number; token_type: string }
}

/** Status and code of a problem, as `401 unauthenticated`; the status alone of anything else. */
export function outcome({ status, body }: Answer): string {
  return status < 400 ? String(status) : `${status} ${(body as Problem).code}`
}

async function callServer(url: string, route: string, { token, body, form, headers = {} }: Call): Promise<Answer> {
  const [method, path] = route.split(' ') as [string, string]
  const sent = form ? new URLSearchParams(form) : typeof body === 'string' ? body : JSON.stringify(body)
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(sent !== undefined && { body: sent }),
  })
  const text = await response.text()
  const isJson = /json/.test(response.headers.get('content-type') ?? '')
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
}
