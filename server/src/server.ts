import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Config } from './config.ts'
import type { Clock, Context, Log, Random } from './context.ts'
import type { Database } from './db/database.ts'
import { migrate } from './db/migrations.ts'
import { openSqlite } from './db/sqlite-database.ts'
import { createEventLog } from './event-store.ts'
import type { FileStore } from './file-store.ts'
import { gpuRoutes } from './gpus/gpu-routes.ts'
import { createGpuService } from './gpus/gpu-service.ts'
import { mountDocs } from './http/docs.ts'
import { createHttpServer, mountRoutes } from './http/http-server.ts'
import { loadCatalogue } from './models/model-catalogue.ts'
import { modelsOfGpu } from './models/model-fit.ts'
import { modelRoutes } from './models/model-routes.ts'
import { createModelService } from './models/model-service.ts'
import { systemClock, systemLog, systemRandom } from './system-context.ts'
import { folderFileStore, memoryFileStore } from './system-file-store.ts'
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
  await context.database.transaction(migrate)
  const passwords = createPasswords(context)
  const authentication = createAuthenticationService(context)
  const users = createUserService(context, authentication)
  const accounts = createAccountService(context, { users, passwords })
  const sessions = createSessionService(context, { authentication, passwords })
  const credentials = createCredentialService(context, authentication)
  const gpus = await createGpuService(context, { modelsOf: (gpu) => modelsOfGpu(gpu, catalogue.models) })
  const models = createModelService(catalogue, gpus.registry)
  const app = await createHttpServer(context)
  const routes = [...userRoutes({ accounts, sessions, credentials }), ...gpuRoutes(gpus), ...modelRoutes(models)]
  mountRoutes(app, context, { routes, authenticate: authentication.authenticate })
  await mountDocs(app, version)
  const url = await app.listen({ port: config.port, host: config.host })
  return {
    context,
    app,
    url,
    async close() {
      await app.close()
      await gpus.stop()
      await context.database.close()
    },
  }
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
