import { type api, type Gpu, type HandlerOutputOf, type ParsedInputOf, problem } from '@orbyte/protocol'
import { type Context, every, isoFromMs, nowIso } from '../context.ts'
import type { Reader, Transaction } from '../db/database.ts'
import type { Page, PageInput } from '../http/page.ts'
import type { Caller } from '../http/route.ts'
import type { AccountService } from '../users/account-service.ts'
import type { UserService } from '../users/user-service.ts'
import { type AgentReport, bindDevices, newGpuRecord, tooManyGpus } from './gpu-binding.ts'
import * as history from './gpu-history-store.ts'
import { type GpuQuery, listGpus } from './gpu-listing.ts'
import { GpuRegistry, type MarketGpu } from './gpu-registry.ts'
import * as standings from './gpu-standing-store.ts'
import * as store from './gpu-store.ts'
import { createTelemetryRecorder } from './gpu-telemetry.ts'
import { viewGpu } from './gpu-view.ts'

export type GpuServiceDeps = {
  readonly users: Pick<UserService, 'isActive' | 'onStatusChanged'>
  readonly accounts: Pick<AccountService, 'onClose' | 'contribute'>
  /** Names of the models that a GPU can run, for whoever looks at it. */
  readonly modelsOf: (gpu: MarketGpu) => string[]
}
/** unanswered: its agent was asked to take it and said nothing. */
export type AttemptEnd = { readonly outcome: 'completed' | 'provider_failed' | 'unanswered'; readonly nowMs: number }
type ReclaimListener = (gpu: MarketGpu) => Promise<void>
type Owner = Pick<Caller, 'userId'>
type Market = Context &
  Pick<GpuServiceDeps, 'modelsOf'> & { readonly registry: GpuRegistry; readonly reclaimed: ReclaimListener }

export type GpuService = Awaited<ReturnType<typeof createGpuService>>

const telemetryPeriodMs = 60_000
const dayMs = 24 * 3_600_000

/** The GPUs of the market: registration, what owners do with them, history. Reads the registry from disk before it resolves. */
export async function createGpuService(context: Context, deps: GpuServiceDeps) {
  const registry = await loadRegistry(context, deps.users)
  const recorder = createTelemetryRecorder(context, registry)
  const stopRecording = every(context, telemetryPeriodMs, recorder.writeMinutes)
  const reclaimListeners = new Set<ReclaimListener>()
  const reclaimed = async (gpu: MarketGpu) =>
    void (await Promise.all([...reclaimListeners].map((listen) => listen(gpu))))
  const market: Market = { ...context, modelsOf: deps.modelsOf, registry, reclaimed }
  deps.accounts.onClose((tx, ownerId) => removeGpusOfOwner(market, tx, ownerId))
  deps.accounts.contribute('gpus', store.exportGpusOfOwner)
  return {
    registry,
    list: (query: GpuQuery) => listView(market, registry.all(), query),
    /** Newest first. */
    mine: (caller: Owner, page: PageInput) =>
      listView(market, registry.ofOwner(caller.userId), { ...page, sort: '-created' }),
    create: (caller: Owner, input: ParsedInputOf<typeof api.gpus.create>) => createGpu(market, caller, input),
    get: (gpuId: string) => view(market, gpuId),
    /** As `get`; null where there is none. */
    find: (gpuId: string): Gpu | null => (registry.get(gpuId) ? view(market, gpuId) : null),
    update: (caller: Owner, input: GpuChanges) => changeGpu(market, caller, input),
    remove: (caller: Owner, gpuId: string) => removeGpu(market, caller, gpuId),
    reclaim: (caller: Owner, gpuId: string) => reclaimGpu(market, caller, gpuId),
    prices: (gpuId: string) => readHistory(market, gpuId, (reader) => history.readPrices(reader, gpuId)),
    telemetry: (gpuId: string, since: string | undefined) => readTelemetry(market, gpuId, since),
    /** Throws unless it is the caller's, or the caller is an administrator. Also for a deleted GPU, whose history stays. */
    assertOwner: (caller: Pick<Caller, 'userId' | 'role'>, gpuId: string) => assertOwner(market, caller, gpuId),
    /** For the agents feature: within the transaction of an agent's hello or its report of changed devices. */
    bindDevices: (tx: Transaction, report: AgentReport) => bindDevices({ ...market, tx }, report),
    /** For the scheduler: within the transaction that ends an attempt. Only ends that say something about the provider. */
    recordAttemptEnd: (tx: Transaction, gpuId: string, end: AttemptEnd) =>
      recordAttemptEnd(market, tx, { gpuId, ...end }),
    /** Within the transaction that ends an attempt which took far too long. */
    async recordSlowTask(tx: Transaction, gpuId: string) {
      const counters = await standings.countSlowTask(tx, gpuId)
      if (counters) tx.afterCommit(() => registry.patch(gpuId, counters))
    },
    /** Within the transaction in which a check asks it. */
    async recordAudited(tx: Transaction, gpuId: string) {
      const auditedAtMs = context.clock.now()
      await standings.writeAuditedAt(tx, gpuId, auditedAtMs)
      tx.afterCommit(() => registry.patch(gpuId, { auditedAtMs }))
    },
    /** Within the transaction that decides a check. */
    async recordAudit(tx: Transaction, gpuId: string, outcome: standings.AuditOutcome) {
      const counters = await standings.countAudit(tx, gpuId, outcome)
      if (counters) tx.afterCommit(() => registry.patch(gpuId, counters))
    },
    /**
     * `listen` hears, after the commit, that whatever has the GPU, or was asked to take it, has to stop at once, uncharged. It
     * resolves once that is on the disk; where it rejects, it sees to it that it will be.
     */
    onReclaim(listen: ReclaimListener): () => void {
      reclaimListeners.add(listen)
      return () => reclaimListeners.delete(listen)
    },
    async stop() {
      stopRecording()
      await recorder.stop()
    },
  }
}

/** The GPUs as they are on disk; those of suspended owners are offline, now and whenever a suspension begins or ends. */
async function loadRegistry({ clock, database }: Context, users: GpuServiceDeps['users']): Promise<GpuRegistry> {
  const registry = new GpuRegistry(clock)
  await database.read(async (reader) => {
    const gpus = await store.readAllGpus(reader)
    for (const ownerId of new Set(gpus.map((gpu) => gpu.ownerId)))
      registry.setOwnerSuspended(ownerId, !(await users.isActive(reader, ownerId)))
    for (const gpu of gpus) registry.put(gpu)
  })
  users.onStatusChanged((ownerId, status) => registry.setOwnerSuspended(ownerId, status !== 'active'))
  return registry
}

function listView(market: Market, gpus: readonly MarketGpu[], query: GpuQuery): Page<Gpu> {
  const { items, next_cursor } = listGpus(gpus, query)
  return { items: items.map((gpu) => shown(market, gpu)), next_cursor }
}

function view(market: Market, gpuId: string): Gpu {
  const gpu = market.registry.get(gpuId)
  if (!gpu) throw noSuchGpu(gpuId)
  return shown(market, gpu)
}

function shown(market: Market, gpu: MarketGpu): Gpu {
  return viewGpu(gpu, { models: market.modelsOf(gpu), nowMs: market.clock.now() })
}

function noSuchGpu(gpuId: string) {
  return problem('not_found', `There is no GPU ${gpuId}. List them with GET /api/gpus.`)
}

async function createGpu(market: Market, caller: Owner, input: ParsedInputOf<typeof api.gpus.create>): Promise<Gpu> {
  const { name, model, vram_gb: vramGb, price_per_hour: priceMicrosPerHour, region = null } = input
  const { gpusPerOwnerMax } = market.config.limits
  const fresh = newGpuRecord(market, { ownerId: caller.userId, name, model, vramGb })
  const gpu: store.GpuRecord = { ...fresh, priceMicrosPerHour, region }
  await market.database.transaction(async (tx) => {
    if ((await store.countGpusOf(tx, caller.userId)) >= gpusPerOwnerMax) {
      const { code, message } = tooManyGpus(gpusPerOwnerMax)
      throw problem(code, message)
    }
    await store.insertGpu(tx, gpu)
    await history.insertPrice(tx, gpu, gpu.createdAt)
    tx.afterCommit(() => market.registry.put(gpu))
  })
  return view(market, gpu.id)
}

export type GpuChanges = ParsedInputOf<typeof api.gpus.update>

async function changeGpu(market: Market, caller: Owner, { gpu_id: gpuId, ...changes }: GpuChanges): Promise<Gpu> {
  await market.database.transaction(async (tx) => {
    const before = await readOwnGpu(tx, gpuId, caller)
    const { name, model, vram_gb: vramGb, price_per_hour: priceMicrosPerHour, region } = changes
    const hardware = { model: model ?? before.model, vramGb: vramGb ?? before.vramGb }
    const isSameHardware = hardware.model === before.model && hardware.vramGb === before.vramGb
    if (before.agentId !== null && !isSameHardware)
      throw problem(
        'gpu_backed',
        'An agent has detected what this GPU is, so its model and VRAM cannot be changed by hand.',
      )
    const after: store.GpuRecord = {
      ...before,
      ...hardware,
      registered: before.agentId === null ? hardware : before.registered,
      // Why it did not become a device that an agent reported no longer holds for other hardware.
      differences: isSameHardware ? before.differences : [],
      name: name ?? before.name,
      priceMicrosPerHour: priceMicrosPerHour ?? before.priceMicrosPerHour,
      region: region === undefined ? before.region : region,
      maintenance: changes.maintenance ?? before.maintenance,
      sharing: changes.sharing ?? before.sharing,
    }
    await store.updateGpu(tx, after)
    if (after.priceMicrosPerHour !== before.priceMicrosPerHour) await history.insertPrice(tx, after, nowIso(market))
    tx.afterCommit(() => market.registry.put(after))
  })
  return view(market, gpuId)
}

async function readOwnGpu(tx: Transaction, gpuId: string, caller: Owner): Promise<store.GpuRecord> {
  const gpu = await store.readGpu(tx, gpuId)
  if (!gpu) throw noSuchGpu(gpuId)
  if (gpu.ownerId !== caller.userId) throw notYourGpu()
  return gpu
}

async function assertOwner(
  { database }: Market,
  caller: Pick<Caller, 'userId' | 'role'>,
  gpuId: string,
): Promise<void> {
  const ownerId = await database.read((reader) => store.readOwnerId(reader, gpuId))
  if (ownerId === null) throw noSuchGpu(gpuId)
  if (ownerId !== caller.userId && caller.role !== 'admin') throw notYourGpu()
}

function notYourGpu() {
  return problem('forbidden', 'This GPU belongs to another account. Only its owner may do that.')
}

async function removeGpu(market: Market, caller: Owner, gpuId: string): Promise<{ ok: true }> {
  const { registry } = market
  let withdrawn = false
  try {
    await market.database.transaction(async (tx) => {
      const { name } = await readOwnGpu(tx, gpuId, caller)
      withdrawn = registry.withdraw(gpuId)
      if (!withdrawn)
        throw problem(
          'gpu_in_use',
          'A task runs on this GPU. Put it into maintenance and wait, or reclaim it, then delete it.',
        )
      if (registry.get(gpuId)?.connected)
        throw problem(
          'gpu_connected',
          `An agent is connected with ${name} and would register it again. Stop that agent, then delete it. Maintenance keeps tasks away meanwhile.`,
        )
      await store.markGpuDeleted(tx, gpuId, nowIso(market))
      tx.afterCommit(() => registry.remove(gpuId))
    })
  } catch (error) {
    if (withdrawn) registry.undoWithdraw(gpuId)
    throw error
  }
  return { ok: true }
}

/** When an account closes. An attempt that begins in the same moment is stopped like one on a GPU that is reclaimed. */
async function removeGpusOfOwner(market: Market, tx: Transaction, ownerId: string) {
  const { registry } = market
  const inUse = registry.ofOwner(ownerId).filter(({ takenMilli }) => takenMilli > 0)
  if (inUse.length > 0)
    throw problem(
      'account_has_obligations',
      `A task runs on ${inUse[0]!.name}. Wait until it ends, or reclaim the GPU first.`,
      {
        gpu_ids: inUse.map(({ id }) => id),
      },
    )
  for (const { id } of await store.readGpusOfOwner(tx, ownerId)) {
    await store.markGpuDeleted(tx, id, nowIso(market))
    tx.afterCommit(() => {
      const gpu = registry.get(id)
      registry.remove(id)
      if (gpu) market.reclaimed(gpu).catch(() => {})
    })
  }
}

/** Answers once nothing of what ran there can come back, be it after a restart. */
async function reclaimGpu(market: Market, caller: Owner, gpuId: string): Promise<Gpu> {
  let ended = Promise.resolve()
  await market.database.transaction(async (tx) => {
    const gpu = { ...(await readOwnGpu(tx, gpuId, caller)), maintenance: true }
    await store.updateGpu(tx, gpu)
    tx.afterCommit(() => {
      market.registry.put(gpu)
      ended = market.reclaimed(market.registry.get(gpuId)!)
    })
  })
  await ended
  return view(market, gpuId)
}

/** Also of a GPU that has been deleted. */
async function readHistory<T>(
  market: Market,
  gpuId: string,
  read: (reader: Reader) => Promise<T[]>,
): Promise<{ items: T[] }> {
  return market.database.read(async (reader) => {
    if ((await store.readOwnerId(reader, gpuId)) === null) throw noSuchGpu(gpuId)
    return { items: await read(reader) }
  })
}

type TelemetryPoints = Promise<HandlerOutputOf<typeof api.gpus.telemetry>>
function readTelemetry(market: Market, gpuId: string, since: string | undefined): TelemetryPoints {
  const sinceMs = since === undefined ? market.clock.now() - dayMs : Date.parse(since)
  return readHistory(market, gpuId, (reader) => history.readTelemetry(reader, gpuId, isoFromMs(sinceMs)))
}

type EndOnGpu = AttemptEnd & { readonly gpuId: string }
async function recordAttemptEnd(market: Market, tx: Transaction, { gpuId, outcome, nowMs }: EndOnGpu) {
  if (outcome === 'completed') {
    await standings.countCompletedAttempt(tx, gpuId)
    tx.afterCommit(() => market.registry.countCompleted(gpuId))
    return
  }
  const counted = await standings.countFailure(tx, gpuId, { isTask: outcome === 'provider_failed', nowMs })
  if (!counted) return
  const { coolDownMs, coolDownMaxMs } = market.config.timing
  const coolDownUntilMs = nowMs + Math.min(coolDownMs * 2 ** (counted.failuresInARow - 1), coolDownMaxMs)
  await standings.writeCoolDown(tx, gpuId, coolDownUntilMs)
  tx.afterCommit(() => market.registry.patch(gpuId, { ...counted, coolDownUntilMs }))
}
