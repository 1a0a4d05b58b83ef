import { problem, type User } from '@orbyte/protocol'
import { loadConfig } from '@orbyte/server/config.ts'
import { createHttpServer, mountRoutes } from '@orbyte/server/http/http-server.ts'
import type { Authenticate, Route } from '@orbyte/server/http/route.ts'
import { systemLog } from '@orbyte/server/system-context.ts'
import { onTestFinished } from 'vitest'

export const userId = 'user_01k00000000000000000000000'
export const taskId = 'task_01k00000000000000000000000'
export const attemptId = 'att_01k00000000000000000000000'

export const user: User = {
  id: userId,
  email: 'alice@example.org',
  name: null,
  role: 'user',
  status: 'active',
  created_at: '2026-01-01T00:00:00.000Z',
}

/** Lets in whoever says "good"; "old" has expired. */
export const authenticate: Authenticate = async (credential) => {
  if (credential.startsWith('good')) return { userId, role: 'user', sessionId: null }
  if (credential === 'old') throw problem('token_expired', 'The access token has expired. Renew it.')
  throw problem('unauthenticated', 'This token is not valid.')
}

/** The server's own HTTP layer, on a free port, with a few endpoints that do what a test needs. Closed after the test. */
export async function startMarket(routes: Route[]): Promise<string> {
  const config = loadConfig({ DATABASE_URL: ':memory:', PORT: '0' })
  const context = { config, log: systemLog('silent') }
  const app = await createHttpServer(context)
  mountRoutes(app, context, { routes, authenticate })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  onTestFinished(() => app.close())
  return url
}
