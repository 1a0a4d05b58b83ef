import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { adminRoutes } from './admin/admin-routes.ts'
import { healthRoute } from './admin/health-routes.ts'
import { agentRoutes } from './agents/agent-routes.ts'
import { agentDoor } from './agents/agent-socket.ts'
import { auditRoutes } from './audits/audit-routes.ts'
import type { Config } from './config.ts'
import type { Clock, Context, Log, Random } from './context.ts'
import type { Database } from './db/database.ts'
import { migrate } from './db/migrations.ts'
import { openSqlite } from './db/sqlite-database.ts'
import { createEventLog } from './event-store.ts'
import type { FileStore } from './file-store.ts'
import { gpuRoutes } from './gpus/gpu-routes.ts'
import { mountDocs } from './http/docs.ts'
import { createHttpServer, mountRoutes } from './http/http-server.ts'
import { mountDownloads, mountWebApp } from './http/static.ts'
import { mountSockets } from './http/web-sockets.ts'
import { ledgerRoutes } from './ledger/ledger-routes.ts'
import { liveDoor } from './live/live-socket.ts'
import { createMarket } from './market.ts'
import { loadCatalogue } from './models/model-catalogue.ts'
import { modelRoutes } from './models/model-routes.ts'
import { paymentRoutes } from './payments/payment-routes.ts'
import { schedulerRoutes } from './scheduler/scheduler-routes.ts'
import { speedRoutes } from './speeds/speed-routes.ts'
import { endProcess, systemClock, systemLog, systemRandom } from './system-context.ts'
import { folderFileStore, memoryFileStore } from './system-file-store.ts'
import { taskRoutes } from './tasks/task-routes.ts'
import { userRoutes } from './users/user-routes.ts'
import { version } from './version.ts'

/** What a server may be given from outside instead of the system's own. */
export type Outside = { clock?: Clock; random?: Random; log?: Log; database?: Database; files?: FileStore }

export type Server = {
  readonly context: Context
  readonly app: FastifyInstance
  /** Where it listens, like http://127.0.0.1:8000. */
  readonly url: string
  close(): Promise<void>
}

/** Opens the market's file, which is closed again where the server cannot start. */
export async function startServer(config: Config, outside: Outside = {}): Promise<Server> {
  const context = createContext(config, outside)
  try {
    return await compose(context)
  } catch (error) {
    await context.database.close()
    throw error
  }
}

/** The composition root: makes the market from its context, then the doors to it, then listens. */
async function compose(context: Context): Promise<Server> {
  const { config } = context
  const catalogue = loadCatalogue(config.modelsPath)
  await migrate(context.database, { backupPath: config.databasePath === ':memory:' ? null : config.databasePath })
  const market = await createMarket(context, { catalogue })
  const { gpus, tasks, scheduler, agents } = market

  let stopping = false
  const app = await createHttpServer(context)
  const routes = [
    ...userRoutes(market),
    ...ledgerRoutes(market.wallet),
    ...paymentRoutes(market.payments, market.disputes),
    ...gpuRoutes(gpus),
    ...modelRoutes(market.models),
    ...taskRoutes(tasks, market.streams, gpus),
    ...speedRoutes(market.speeds),
    ...schedulerRoutes(market),
    ...auditRoutes(market.audits),
    ...agentRoutes(agents),
    ...adminRoutes(market.admin, market.backups),
    healthRoute(context, { gpus, scheduler, isStopping: () => stopping }),
  ]
  mountRoutes(app, context, { routes, authenticate: market.authentication.authenticate })
  mountSockets(app, context, [agentDoor(context, { agents, scheduler }), liveDoor(context, market)])
  await mountDocs(app, version)
  if (config.downloadsPath !== null) await mountDownloads(app, config.downloadsPath)
  if (config.webPath !== null) await mountWebApp(app, config.webPath)
  const url = await app.listen({ port: config.port, host: config.host })

  async function close() {
    stopping = true
    const stopped = market.stop()
    await app.close()
    await stopped
    await context.database.close()
  }
  return { context, app, url, close }
}

function createContext(config: Config, outside: Outside): Context {
  const clock = outside.clock ?? systemClock
  const log = outside.log ?? systemLog(config.logLevel)
  const onEffectError = (error: unknown) => log.error({ error }, 'an effect of a commit failed')
  const onDoubt = (error: unknown) => {
    log.error(
      { error },
      'the system cannot say whether a commit is on the disk: the market ends, and finds out when it is started again',
    )
    endProcess()
  }
  const inMemory = config.databasePath === ':memory:'
  if (!inMemory) mkdirSync(dirname(config.databasePath), { recursive: true })
  return {
    config,
    clock,
    random: outside.random ?? systemRandom,
    log,
    database: outside.database ?? openSqlite(config.databasePath, { onEffectError, onDoubt }),
    files: outside.files ?? (inMemory ? memoryFileStore() : folderFileStore(`${config.databasePath}.files`)),
    events: createEventLog(clock),
  }
}
