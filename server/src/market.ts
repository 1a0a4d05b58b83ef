import { createAdminService } from './admin/admin-service.ts'
import { createBackupService } from './admin/backup-service.ts'
import { createAgentAdmission } from './agents/agent-admission.ts'
import { createAgentConnections } from './agents/agent-connections.ts'
import { createAgentService } from './agents/agent-service.ts'
import { createAuditService } from './audits/audit-service.ts'
import { type Context, every, isoFromMs } from './context.ts'
import { indexOwned, ownedBehind } from './db/owned-rows.ts'
import { createGpuService } from './gpus/gpu-service.ts'
import { deleteOldIdempotencyKeys } from './http/idempotency-store.ts'
import { ledgerKeyFrom } from './ledger/ledger-key.ts'
import { createLedger } from './ledger/ledger-service.ts'
import { createWalletService } from './ledger/wallet-service.ts'
import { createLiveService } from './live/live-service.ts'
import type { Catalogue } from './models/model-catalogue.ts'
import { modelsOfGpu } from './models/model-fit.ts'
import { createModelService } from './models/model-service.ts'
import { createDisputeService, type DisputeService } from './payments/dispute-service.ts'
import { createPaymentService, type PaymentService } from './payments/payment-service.ts'
import { createExplanationService } from './scheduler/explanation-service.ts'
import { createScheduler } from './scheduler/scheduler-service.ts'
import { createSubmissionService } from './scheduler/submission-service.ts'
import { createSpeedService } from './speeds/speed-service.ts'
import { createAttemptService } from './tasks/attempt-service.ts'
import { createTaskFiles, type TaskFiles } from './tasks/task-files.ts'
import { createTaskService, type TaskService } from './tasks/task-service.ts'
import { createTaskStreams } from './tasks/task-streams.ts'
import { createAccountService } from './users/account-service.ts'
import { createAuthenticationService } from './users/authentication-service.ts'
import { createCredentialService } from './users/credential-service.ts'
import { createPasswords } from './users/password.ts'
import { createSessionService } from './users/session-service.ts'
import { createUserService } from './users/user-service.ts'

export type Market = Awaited<ReturnType<typeof createMarket>>

/** All features of the market, each made from those left of it, without a way in: server.ts opens the doors. */
export async function createMarket(context: Context, { catalogue }: { catalogue: Catalogue }) {
  const passwords = createPasswords(context)
  const authentication = createAuthenticationService(context)
  const users = createUserService(context, authentication)
  const accounts = createAccountService(context, { users, passwords })
  const sessions = createSessionService(context, { authentication, passwords })
  const credentials = createCredentialService(context, authentication)
  const ledger = createLedger(context, ledgerKeyFrom(context.config.ledgerKey))
  await context.database.transaction(ledger.checkKey)
  const wallet = createWalletService(context, ledger, accounts)
  const payments = createPaymentService(context, { ledger, users, accounts })
  const disputes = createDisputeService(context, payments)
  const gpus = await createGpuService(context, {
    users,
    accounts,
    modelsOf: (gpu) => modelsOfGpu(gpu, catalogue.models),
  })
  const models = createModelService(catalogue, gpus.registry)
  const taskFiles = createTaskFiles(context)
  const tasks = createTaskService(context, { payments, accounts, files: taskFiles })
  const streams = createTaskStreams(context, { tasks, authentication })
  const attempts = createAttemptService(context, taskFiles)
  const speeds = await createSpeedService(context, gpus.registry)
  const connections = createAgentConnections()
  const scheduler = await createScheduler(context, { gpus, models, payments, attempts, speeds, agents: connections })
  const explanations = createExplanationService(context, { gpus, scheduler })
  const submissions = createSubmissionService(context, { gpus, models, ledger, attempts, scheduler, explanations })
  const audits = await createAuditService(context, {
    ...{ users, ledger, payments, disputes, gpus, models },
    ...{ tasks, speeds, scheduler, submissions },
  })
  const admission = createAgentAdmission(context, { users, credentials })
  const agents = await createAgentService(context, { users, admission, gpus, scheduler, audits, connections })
  const live = createLiveService(context, { tasks, gpus, wallet })
  const admin = createAdminService(context, { users, passwords, payments, disputes, tasks, scheduler, agents })
  const backups = createBackupService(context, { ledger })
  const stopHousekeeping = keepHouse(context, { payments, disputes, tasks, taskFiles })

  return {
    authentication,
    users,
    accounts,
    sessions,
    credentials,
    ledger,
    wallet,
    payments,
    disputes,
    gpus,
    models,
    tasks,
    streams,
    speeds,
    scheduler,
    explanations,
    submissions,
    audits,
    agents,
    live,
    admin,
    backups,
    /** Nothing happens by itself any more. Resolves once what was waiting to be written is. */
    async stop() {
      stopHousekeeping()
      audits.stop()
      scheduler.stop()
      agents.stop()
      await gpus.stop()
    },
  }
}

/** How long until an index has what was added: until then it is looked through. */
const indexOwnedMs = 1_000
/** At once: about two milliseconds. So many rows an entry has at most, and whoever reads a page of them sorts their numbers. */
const ownedRowsMax = 1_000

/** Goes on until nothing is left, or the market stops. */
function indexAllOwned({ database }: Context) {
  let isStopped = false
  return {
    async work() {
      let isBehind = (await database.read(ownedBehind)).length > 0
      while (isBehind && !isStopped) isBehind = await database.transaction((tx) => indexOwned(tx, ownedRowsMax))
    },
    stop: () => void (isStopped = true),
  }
}

type House = { payments: PaymentService; disputes: DisputeService; tasks: TaskService; taskFiles: TaskFiles }

/** What has to be done from time to time. Each by itself: where one fails, the others are done. */
function keepHouse(context: Context, { payments, disputes, tasks, taskFiles }: House): () => void {
  const { housekeepingMs, idempotencyMs } = context.config.timing
  let isSwept = false
  const duties = [
    payments.settleDue,
    disputes.endDue,
    tasks.deleteOldData,
    // What an earlier process has left can only be there once.
    async () => {
      if (!isSwept) await taskFiles.sweep()
      isSwept = true
    },
    async () => {
      const before = isoFromMs(context.clock.now() - idempotencyMs)
      await context.database.transaction((tx) => deleteOldIdempotencyKeys(tx, before))
    },
  ]
  const stops = duties.map((duty) => every(context, housekeepingMs, duty))
  const indexing = indexAllOwned(context)
  stops.push(every(context, indexOwnedMs, indexing.work), indexing.stop)
  return () => {
    for (const stop of stops) stop()
  }
}
