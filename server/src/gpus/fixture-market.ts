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
import { agentId, reportedDevice, userId } from './fixture-gpus.ts'
import { gpuRoutes } from './gpu-routes.ts'
import { createGpuService } from './gpu-service.ts'
import { problem, type ReportedDevice } from '@orbyte/protocol'

/** Access tokens of the people in it, and who they are. */
const people: Record<string, string> = { bob: userId(1), alice: userId(2) }
export const startMs = Date.parse('2026-03-01T12:00:30.000Z')

type Options = { allowEmulatedGpus?: boolean; gpusPerOwnerMax?: number; database?: Database; startMs?: number }
type Call = { as?: string; body?: unknown }
export type Reply = { status: number; body: Record<string, unknown> & { items: Record<string, unknown>[] } }

/** The GPU feature behind HTTP on a database of its own, with a clock that stands still. */
export async function startGpuMarket(options: Options = {}) {
  const clock = manualClock(options.startMs ?? startMs)
  const database = options.database ?? openSqlite(':memory:')
  await database.transaction(migrate)
  const defaults = loadConfig({ DATABASE_URL: ':memory:', PORT: '0', LOG_LEVEL: 'silent' })
  const limits = { ...defaults.limits, gpusPerOwnerMax: options.gpusPerOwnerMax ?? 1_000 }
  const config = { ...defaults, limits, allowEmulatedGpus: options.allowEmulatedGpus ?? false }
  const outside = { random: systemRandom, log: systemLog('silent'), files: memoryFileStore() }
  const context: Context = { config, clock, database, events: createEventLog(clock), ...outside }
  const gpus = await createGpuService(context, { modelsOf: (gpu) => [...gpu.ownModels] })
  const app = await createHttpServer(context)
  mountRoutes(app, context, {
    routes: gpuRoutes(gpus),
    async authenticate(credential) {
      const user = people[credential]
      if (user === undefined) throw problem('unauthenticated', 'Nobody has this token.')
      return { userId: user, role: 'user', sessionId: null }
    },
  })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })

  async function call(route: string, { as, body }: Call = {}): Promise<Reply> {
    const [method, path] = route.split(' ')
    const reply = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(as !== undefined && { authorization: `Bearer ${as}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return { status: reply.status, body: (await reply.json()) as Reply['body'] }
  }

  return {
    gpus,
    registry: gpus.registry,
    clock,
    database,
    call,
    /** Bob's agent says hello with these devices. */
    report(devices: Partial<ReportedDevice>[], from: { agent?: number; owner?: number; region?: string } = {}) {
      const report = {
        agentId: agentId(from.agent ?? 1),
        ownerId: userId(from.owner ?? 1),
        hostname: 'box',
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
