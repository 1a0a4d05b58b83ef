import type { Context } from '../context.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import type { ModelService } from '../models/model-service.ts'
import type { StoredTask } from '../tasks/task-store.ts'
import type { ActiveAttempt, AttemptBook } from './attempt-book.ts'
import type { MarketPause } from './market-store.ts'
import { chooseBest, judgeFit, judgeNow, type Wanted } from './matching.ts'
import type { AgentLink } from './scheduler-service.ts'
import { createTaskQueue, type QueuedTask } from './task-queue.ts'

type Parts = {
  gpus: GpuService
  models: ModelService
  agents: AgentLink
  book: AttemptBook
  pause: MarketPause
  offer: (queued: QueuedTask, gpu: MarketGpu) => void
}
export type Matchmaker = ReturnType<typeof createMatchmaker>

/** Keeps the tasks that wait and offers each to the best GPU that is free: who that is, is decided in matching.ts. */
export function createMatchmaker(context: Context, { gpus, models, agents, book, pause, offer }: Parts) {
  const { clock, config } = context
  const { registry } = gpus
  const queue = createTaskQueue()
  let matchingDue = false

  function wantedOf(task: StoredTask, failedGpus: Map<string, number>): Wanted {
    return {
      taskType: task.task_type,
      requirements: task.requirements,
      model: task.model === null ? null : models.resolve(task.task_type, task.model),
      modelName: task.model,
      maxPriceMicrosPerHour: task.max_price_per_hour,
      failedGpus,
      retryFailed: false,
    }
  }

  /** The task as the queue has it, with the GPUs that have failed it: they may be asked again after their cool-down. */
  function waiting(task: StoredTask, tried: { offers: number; failedGpus: string[] }): QueuedTask {
    const againMs = clock.now() + config.timing.coolDownMs
    const failedGpus = new Map(tried.failedGpus.map((gpuId) => [gpuId, againMs]))
    const waitUntilMs = Date.parse(task.created_at) + task.max_wait_ms
    return { task, wanted: wantedOf(task, failedGpus), waitUntilMs, offers: tried.offers }
  }

  function enqueue(task: StoredTask) {
    queue.add(waiting(task, { offers: 0, failedGpus: [] }))
    wake()
  }

  function requeue({ queued, attempt }: ActiveAttempt, { passOver }: { passOver: boolean }) {
    const failedGpus = new Map(queued.wanted.failedGpus)
    if (passOver) failedGpus.set(attempt.gpu_id, clock.now() + config.timing.coolDownMs)
    queue.add({ ...queued, wanted: { ...queued.wanted, failedGpus }, offers: attempt.number })
    wake()
  }

  /** Looks for matches soon: once, however often it is asked for until then. */
  function wake() {
    if (matchingDue) return
    matchingDue = true
    queueMicrotask(() => {
      matchingDue = false
      if (!pause.paused) matchWaiting()
    })
  }

  function matchWaiting() {
    if (queue.size() === 0) return
    const free = new Set(registry.all().filter(canBeAsked))
    for (const queued of queue.inTurns()) {
      if (free.size === 0) return
      const gpu = bestFor(queued, free)
      if (!gpu) continue
      free.delete(gpu)
      queue.remove(queued.task.id)
      queue.turnTaken(queued.task.renter_id)
      offer(queued, gpu)
    }
  }

  /** An agent's GPUs are there before it has been let in: it is asked from its welcome on. */
  function canBeAsked({ id, agentId, attemptId }: MarketGpu): boolean {
    return attemptId === null && agentId !== null && agents.isConnected(agentId) && !book.offersTo(id)
  }

  function bestFor({ wanted }: QueuedTask, free: ReadonlySet<MarketGpu>): MarketGpu | null {
    const nowMs = clock.now()
    const random = context.random.bytes(1)[0]! / 256
    const best = (look: Wanted) =>
      chooseBest(
        [...free].map((gpu) => judgeNow(look, gpu, nowMs)),
        random,
      )
    const found = best(wanted)
    if (found || wanted.failedGpus.size === 0) return found
    const others = registry
      .all()
      .some((gpu) => !wanted.failedGpus.has(gpu.id) && !judgeFit(wanted, gpu, nowMs).rejection)
    return others ? null : best({ ...wanted, retryFailed: true })
  }

  return { queue, waiting, enqueue, requeue, wake }
}
