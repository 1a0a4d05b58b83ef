import type { Micros, Model, TaskType } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { GpuRegistry, MarketGpu } from '../gpus/gpu-registry.ts'
import { isOnTrial } from '../gpus/gpu-status.ts'
import type { ModelService } from '../models/model-service.ts'
import { judgeFit, judgeNow, wantedOf } from '../scheduler/matching.ts'
import type { Scheduler } from '../scheduler/scheduler-service.ts'
import type { QueuedTask } from '../scheduler/task-queue.ts'
import type { SpeedService } from '../speeds/speed-service.ts'
import type { Chance } from './audit-canaries.ts'
import { deviceClassOf } from './audit-comparison.ts'
import { agreementsUntilTrusted } from './audit-judgement.ts'

export type AuditChoice = ReturnType<typeof createAuditChoice>
/** A question that GPUs of one class can answer. */
export type Question = { readonly taskType: TaskType; readonly model: Model }

type Parts = {
  registry: GpuRegistry
  models: ModelService
  speeds: SpeedService
  scheduler: Scheduler
  dues: ReadonlySet<string>
  chance: Chance
}

type Peers = {
  readonly deviceClass: string
  readonly question: Question
  readonly owners: ReadonlySet<string>
  readonly renters: readonly QueuedTask[]
}

/** GPUs that are looked at in one go. */
const lookedAtMax = 20
/** So small a model is fetched for a check; a larger one is only asked of a GPU that has it. */
const fetchedBytesMax = 64_000_000

/** Which GPU is to be checked next, with which model, and who is asked the same. */
export function createAuditChoice(context: Context, parts: Parts) {
  const { registry, models, speeds, scheduler, dues, chance } = parts
  const { clock, config } = context

  const classes = new Map<string, string>()
  /** Worked out once for each kind: names are long to compare. */
  function classOf(gpu: MarketGpu): string {
    const { kind, model, agentVersion, specs } = gpu
    const key = JSON.stringify([kind, model, agentVersion, specs?.os, specs?.cpu_model])
    const known = classes.get(key) ?? deviceClassOf(gpu)
    classes.set(key, known)
    return known
  }

  const has = (gpu: MarketGpu, { name, files }: Model) =>
    gpu.loadedModels.includes(name) ||
    gpu.cachedModels.includes(name) ||
    speeds.hasRun(gpu.id, name) ||
    files.reduce((sum, { size_bytes }) => sum + size_bytes, 0) <= fetchedBytesMax

  /** By an engine of the agent's: a server of the owner's may be any other program, whose answers differ in good faith. */
  function canAnswer(gpu: MarketGpu, { taskType, model }: Question): boolean {
    if (!gpu.modelFormats.includes(model.format) || !has(gpu, model)) return false
    return judgeNow(wantedFrom(gpu, { taskType, model }), gpu, clock.now()).rejection === null
  }

  const wantedFrom = (gpu: MarketGpu, { taskType, model }: Question) =>
    wantedOf(
      {
        task_type: taskType,
        requirements: { gpu_id: gpu.id },
        model: model.name,
        max_price_per_hour: gpu.priceMicrosPerHour as Micros,
      },
      model,
    )

  /** What renters wait for, each want once. */
  function waiting(): QueuedTask[] {
    const wants = new Map<string, QueuedTask>()
    for (const queued of scheduler.queue.all()) if (queued.task.priority >= 0) wants.set(queued.group, queued)
    return [...wants.values()]
  }

  /** Whether one of them waits for this GPU, or could. */
  function isWantedBy(renters: readonly QueuedTask[], gpu: MarketGpu): boolean {
    return renters.some(
      ({ wanted }) => !wanted.failedGpus.has(gpu.id) && judgeFit(wanted, gpu, clock.now()).rejection === null,
    )
  }

  /** Free GPUs of other owners that have to give the same answer; the trusted ones first, else at random. */
  function peersOf({ deviceClass, question, owners, renters }: Peers): MarketGpu[] {
    const ranked = registry
      .all()
      .filter((gpu) => gpu.takenMilli === 0 && !owners.has(gpu.ownerId) && classOf(gpu) === deviceClass)
      .filter((gpu) => canAnswer(gpu, question) && !isWantedBy(renters, gpu))
      .map((gpu) => ({ gpu, rank: chance() + (gpu.auditsInARow >= agreementsUntilTrusted ? 1 : 0) }))
    return ranked.sort((a, b) => b.rank - a.rank).map(({ gpu }) => gpu)
  }

  function questionsFor(gpu: MarketGpu): Question[] {
    return models
      .deterministic()
      .flatMap((model) => model.task_types.map((taskType) => ({ taskType, model })))
      .filter((question) => canAnswer(gpu, question))
  }

  /**
   * New ones, those on trial, and those whose tasks have made it due. One that differed or was caught may be due by itself too:
   * where two others can say who is right.
   */
  const mayBeDue = (gpu: MarketGpu) => isDue(gpu) || gpu.auditsInARow === 0
  const isDue = (gpu: MarketGpu) => gpu.auditedAtMs === 0 || dues.has(gpu.id) || isOnTrial(gpu)

  return {
    classOf,

    /** Free GPUs that could be asked the same, of other owners than these. */
    peers: (wanted: Omit<Peers, 'renters'>) => peersOf({ ...wanted, renters: waiting() }),

    /** Of these GPUs, those that a renter waits for. */
    wanted(gpuIds: readonly string[]): string[] {
      if (gpuIds.length === 0) return []
      const renters = waiting()
      return gpuIds.filter((id) => {
        const gpu = registry.get(id)
        return gpu !== undefined && isWantedBy(renters, gpu)
      })
    },

    /** The GPU that has waited longest for its check and can have one now, with a question and a peer; null: there is none. */
    next(): { gpu: MarketGpu; peer: MarketGpu; question: Question } | null {
      const rested = registry
        .all()
        .filter((gpu) => gpu.connected && gpu.takenMilli === 0 && mayBeDue(gpu))
        .filter(({ auditedAtMs }) => clock.now() - auditedAtMs >= config.timing.auditGapMs)
        .sort((a, b) => a.auditedAtMs - b.auditedAtMs)
      if (rested.length === 0) return null
      const renters = waiting()
      for (const gpu of rested.slice(0, lookedAtMax)) {
        const questions = questionsFor(gpu)
        const question = questions[Math.floor(chance() * questions.length)]
        if (!question || isWantedBy(renters, gpu)) continue
        const owners = new Set([gpu.ownerId])
        const peers = peersOf({ deviceClass: classOf(gpu), question, owners, renters })
        const peerOwners = new Set(peers.map(({ ownerId }) => ownerId)).size
        if (peers[0] && (isDue(gpu) || peerOwners >= 2)) return { gpu, peer: peers[0], question }
      }
      return null
    },
  }
}
