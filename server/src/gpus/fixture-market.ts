import type { ReportedDevice } from '@orbyte/protocol'
import { loadConfig } from '../config.ts'
import type { Context } from '../context.ts'
import type { Database } from '../db/database.ts'
import { migrate } from '../db/migrations.ts'
import { openSqlite } from '../db/sqlite-database.ts'
import { createEventLog } from '../event-store.ts'
import { createHttpServer, mountRoutes } from '../http/http-server.ts'
import { manualClock } from '../manual-clock.ts'
import { systemLog, systemRandom } from '../system-context.ts'
import { memoryFileStore } from '../system-file-store.ts'
import { createAccountService } from '../users/account-service.ts'
import { createAuthenticationService } from '../users/authentication-service.ts'
import { createCredentialService } from '../users/credential-service.ts'
import { createPasswords } from '../users/password.ts'
import { createSessionService } from '../users/session-service.ts'
import { userRoutes } from '../users/user-routes.ts'
import { createUserService } from '../users/user-service.ts'
import { agentId, reportedDevice } from './fixture-gpus.ts'
import { gpuRoutes } from './gpu-routes.ts'
import { createGpuService } from './gpu-service.ts'

export const startMs = Date.parse('2026-03-01T12:00:30.000Z')

type Options = { allowEmulatedGpus?: boolean; gpusPerOwnerMax?: number; database?: Database; startMs?: number }
export type Person = 'bob' | 'alice'
type Call = { as?: Person; body?: unknown }
export const password = 'ten characters or more'
export type Reply = { status: number; body: Record<string, unknown> & { items: Record<string, unknown>[] } }

/** Users and GPUs behind HTTP on a database of its own, with a clock that stands still, and Bob and Alice logged in. */
export async function startGpuMarket(options: Options = {}) {
  const clock = manualClock(options.startMs ?? startMs)
  const database = options.database ?? openSqlite(':memory:')
  await migrate(database, { backupPath: null })
  const defaults = loadConfig({ DATABASE_URL: ':memory:', PORT: '0', LOG_LEVEL: 'silent' })
  const limits = { ...defaults.limits, gpusPerOwnerMax: options.gpusPerOwnerMax ?? 1_000 }
  const config = { ...defaults, limits, allowEmulatedGpus: options.allowEmulatedGpus ?? false }
  const outside = { random: systemRandom, log: systemLog('silent'), files: memoryFileStore() }
  const context: Context = { config, clock, database, events: createEventLog(clock), ...outside }
  const passwords = createPasswords(context)
  const authentication = createAuthenticationService(context)
  const users = createUserService(context, authentication)
  const accounts = createAccountService(context, { users, passwords })
  const sessions = createSessionService(context, { authentication, passwords })
  const credentials = createCredentialService(context, authentication)
  const gpus = await createGpuService(context, { users, accounts, modelsOf: (gpu) => [...gpu.ownModels] })
  const app = await createHttpServer(context)
  const routes = [...userRoutes({ accounts, sessions, credentials }), ...gpuRoutes(gpus)]
  mountRoutes(app, context, { routes, authenticate: authentication.authenticate })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })

  const tokens: Partial<Record<Person, string>> = {}
  const people: Record<Person, string> = { bob: '', alice: '' }
  for (const name of ['bob', 'alice'] as const) {
    const email = `${name}@example.com`
    await call('POST /api/auth/register', { body: { email, password } })
    tokens[name] = (await call('POST /api/auth/token', { body: { username: email, password } })).body
      .access_token as string
    people[name] = (await call('GET /api/auth/me', { as: name })).body.id as string
  }

  async function call(route: string, { as, body }: Call = {}): Promise<Reply> {
    const [method, path] = route.split(' ')
    const reply = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(as !== undefined && { authorization: `Bearer ${tokens[as]}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return { status: reply.status, body: (await reply.json()) as Reply['body'] }
  }

  return {
    ...people,
    users,
    accounts,
    context,
    gpus,
    registry: gpus.registry,
    clock,
    database,
    call,
    /** Bob's agent says hello with these devices. */
    report(devices: Partial<ReportedDevice>[], from: { agent?: number; owner?: Person; region?: string } = {}) {
      const report = {
        agentId: agentId(from.agent ?? 1),
        ownerId: people[from.owner ?? 'bob'],
        hostname: 'box',
        version: '0.1.0',
        region: from.region ?? null,
        devices: devices.map((fields, index) => reportedDevice({ uuid: `GPU-${index + 1}`, index, ...fields })),
      }
      return database.transaction((tx) => gpus.bindDevices(tx, report))
    },
    /** Stops the process's part and leaves the database. */
    async stop() {
      await app.close()
      await gpus.stop()
    },
  }
}
export type GpuMarket = Awaited<ReturnType<typeof startGpuMarket>>
