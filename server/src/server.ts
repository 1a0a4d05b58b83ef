import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { adminRoutes } from './admin/admin-routes.ts'
import { createAdminService } from './admin/admin-service.ts'
import { agentRoutes } from './agents/agent-routes.ts'
import { createAgentConnections, createAgentService } from './agents/agent-service.ts'
import { mountAgentSocket } from './agents/agent-socket.ts'
import type { Config } from './config.ts'
import { type Clock, type Context, every, isoFromMs, type Log, type Random } from './context.ts'
import type { Database } from './db/database.ts'
import { migrate } from './db/migrations.ts'
import { openSqlite } from './db/sqlite-database.ts'
import { createEventLog } from './event-store.ts'
import type { FileStore } from './file-store.ts'
import { gpuRoutes } from './gpus/gpu-routes.ts'
import { createGpuService } from './gpus/gpu-service.ts'
import { healthRoute } from './admin/health-routes.ts'
import { mountDocs } from './http/docs.ts'
import { createHttpServer, mountRoutes } from './http/http-server.ts'
import { deleteOldIdempotencyKeys } from './http/idempotency-store.ts'
import { mountDownloads } from './http/static.ts'
import { ledgerKeyFrom } from './ledger/ledger-key.ts'
import { ledgerRoutes } from './ledger/ledger-routes.ts'
import { createLedger } from './ledger/ledger-service.ts'
import { createWalletService } from './ledger/wallet-service.ts'
import { loadCatalogue } from './models/model-catalogue.ts'
import { modelsOfGpu } from './models/model-fit.ts'
import { modelRoutes } from './models/model-routes.ts'
import { createModelService } from './models/model-service.ts'
import { paymentRoutes } from './payments/payment-routes.ts'
import { createPaymentService, type PaymentService } from './payments/payment-service.ts'
import { schedulerRoutes } from './scheduler/scheduler-routes.ts'
import { createScheduler } from './scheduler/scheduler-service.ts'
import { createSubmissionService } from './scheduler/submission-service.ts'
import { systemClock, systemLog, systemRandom } from './system-context.ts'
import { folderFileStore, memoryFileStore } from './system-file-store.ts'
import { createAttemptService } from './tasks/attempt-service.ts'
import { taskRoutes } from './tasks/task-routes.ts'
import { createTaskService, type TaskService } from './tasks/task-service.ts'
import { createTaskStreams } from './tasks/task-streams.ts'
import { createAccountService } from './users/account-service.ts'
import { createAuthenticationService } from './users/authentication-service.ts'
import { createCredentialService } from './users/credential-service.ts'
import { createPasswords } from './users/password.ts'
import { createSessionService } from './users/session-service.ts'
import { userRoutes } from './users/user-routes.ts'
import { createUserService } from './users/user-service.ts'
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

/** The composition root: makes the context, then each feature from those left of it, then listens. */
export async function startServer(config: Config, outside: Outside = {}): Promise<Server> {
  const catalogue = loadCatalogue(config.modelsPath)
  const context = createContext(config, outside)
  await migrate(context.database, { backupPath: config.databasePath === ':memory:' ? null : config.databasePath })

  const passwords = createPasswords(context)
  const authentication = createAuthenticationService(context)
  const users = createUserService(context, authentication)
  const accounts = createAccountService(context, { users, passwords })
  const sessions = createSessionService(context, { authentication, passwords })
  const credentials = createCredentialService(context, authentication)
  const ledger = createLedger(context, ledgerKeyFrom(config.ledgerKey))
  await context.database.transaction(ledger.checkKey)
  const wallet = createWalletService(context, ledger, accounts)
  const payments = createPaymentService(context, ledger, accounts)
  const gpus = await createGpuService(context, {
    users,
    accounts,
    modelsOf: (gpu) => modelsOfGpu(gpu, catalogue.models),
  })
  const models = createModelService(catalogue, gpus.registry)
  const tasks = createTaskService(context, payments, accounts)
  const attempts = createAttemptService(context)
  const connections = createAgentConnections()
  const scheduler = await createScheduler(context, { gpus, models, payments, attempts, agents: connections })
  const submissions = createSubmissionService(context, { gpus, models, ledger, attempts, scheduler })
  const agents = await createAgentService(context, { users, credentials, gpus, scheduler, connections })
  const admin = createAdminService(context, { users, passwords, payments, tasks, scheduler, agents })
  const stopHousekeeping = keepHouse(context, { payments, tasks })

  let stopping = false
  const app = await createHttpServer(context)
  const routes = [
    ...userRoutes({ accounts, sessions, credentials }),
    ...ledgerRoutes(wallet),
    ...paymentRoutes(payments),
    ...gpuRoutes(gpus),
    ...modelRoutes(models),
    ...taskRoutes(tasks, createTaskStreams(context, tasks), gpus),
    ...schedulerRoutes(submissions, tasks),
    ...agentRoutes(agents),
    ...adminRoutes(admin),
    healthRoute(context, { gpus, scheduler, isStopping: () => stopping }),
  ]
  mountRoutes(app, context, { routes, authenticate: authentication.authenticate })
  mountAgentSocket(app, context, { agents, scheduler })
  await mountDocs(app, version)
  if (config.downloadsPath !== null) await mountDownloads(app, config.downloadsPath)
  const url = await app.listen({ port: config.port, host: config.host })

  async function close() {
    stopping = true
    stopHousekeeping()
    scheduler.stop()
    agents.stop()
    await app.close()
    await gpus.stop()
    await context.database.close()
  }
  return { context, app, url, close }
}

/** What has to be done from time to time: settle what nobody reviewed, forget what has been kept long enough. */
function keepHouse(
  context: Context,
  { payments, tasks }: { payments: PaymentService; tasks: TaskService },
): () => void {
  return every(context, context.config.timing.housekeepingMs, async () => {
    await payments.settleDue()
    await tasks.deleteOldData()
    const before = isoFromMs(context.clock.now() - context.config.timing.idempotencyMs)
    await context.database.transaction((tx) => deleteOldIdempotencyKeys(tx, before))
  })
}

function createContext(config: Config, outside: Outside): Context {
  const clock = outside.clock ?? systemClock
  const inMemory = config.databasePath === ':memory:'
  if (!inMemory) mkdirSync(dirname(config.databasePath), { recursive: true })
  return {
    config,
    clock,
    random: outside.random ?? systemRandom,
    log: outside.log ?? systemLog(config.logLevel),
    database: outside.database ?? openSqlite(config.databasePath),
    files: outside.files ?? (inMemory ? memoryFileStore() : folderFileStore(`${config.databasePath}.files`)),
    events: createEventLog(clock),
  }
}
