import type { Context } from '../context.ts'
import type { ModelService } from '../models/model-service.ts'
import type { TaskHistory } from '../tasks/attempt-store.ts'
import type { OpenTask } from '../tasks/task-store.ts'
import type { ActiveAttempt } from './attempt-book.ts'
import type { FreeGpus } from './free-gpus.ts'
import type { MarketPause } from './market-store.ts'
import type { KeptRooms } from './kept-rooms.ts'
import { createPatience, matchInTurns } from './match-in-turns.ts'
import type { Timings } from './expected-cost.ts'
import type { Choice } from './gpu-search.ts'
import { keyOf, wantedOf } from './matching.ts'
import type { RecentDemand } from './recent-demand.ts'
import type { RenterShares } from './renter-shares.ts'
import { createTaskQueue, type QueuedTask } from './task-queue.ts'

type Parts = {
  models: ModelService
  free: FreeGpus
  rooms: KeptRooms
  shares: RenterShares
  pause: MarketPause
  demand: RecentDemand
  timings: Timings
  offer: (queued: QueuedTask, choice: Choice) => void
}
/** `failedAt`: when its GPUs have failed or refused it; null: they have not. */
type Requeued = { failedAt: string | null; hadBegun: boolean }
export type Matchmaker = ReturnType<typeof createMatchmaker>

/** Keeps the tasks that wait and offers each to the best GPU that is free: who that is, is decided in gpu-search.ts. */
export function createMatchmaker(
  context: Context,
  { models, free, rooms, shares, pause, demand, timings, offer }: Parts,
) {
  const { clock } = context
  const { coolDownMs, coolDownMaxMs, agePerPriorityMs, warmPatienceMs } = context.config.timing
  const patience = createPatience(warmPatienceMs)
  const queue = createTaskQueue({ agePerPriorityMs })
  let matchingDue = false
  /** One that has paused. */
  let look: { matches: ReturnType<typeof matchInTurns>; cancel: () => void } | null = null
  let isNews = false

  /** The task as the queue has it. A GPU that has failed it waits longer each time until it may be asked again. */
  function waiting(task: OpenTask, { offers, failures, triedUntil }: TaskHistory): QueuedTask {
    const againMs = (times: number) => Math.min(coolDownMs * 2 ** (times - 1), coolDownMaxMs)
    const failedGpus = new Map(
      failures.map(({ gpuId, times, lastAt }) => [gpuId, Date.parse(lastAt) + againMs(times)] as const),
    )
    return {
      task,
      wanted: wantedOfTask(task, failedGpus),
      group: failures.length === 0 ? keyOf(task) : task.id,
      waitUntilMs: Date.parse(triedUntil ?? task.created_at) + task.max_wait_ms,
      triedUntil,
      offers,
      failures,
    }
  }

  function wantedOfTask(
    task: Pick<OpenTask, 'task_type' | 'requirements' | 'model' | 'max_price_per_hour'>,
    failedGpus?: Map<string, number>,
  ) {
    const model = task.model === null ? null : models.resolve(task.task_type, task.model)
    return wantedOf(task, model, { failedGpus, timings })
  }

  function enqueue(task: OpenTask) {
    const queued = waiting(task, { offers: 0, failures: [], triedUntil: null })
    queue.add(queued)
    free.arrived(queued.wanted)
    wake()
  }

  /** Back into the queue after an attempt. One on trial was none of the renter's tries, so the task waits on as it did. */
  function requeue({ queued, attempt, taken }: ActiveAttempt, { failedAt, hadBegun }: Requeued) {
    const { number: offers } = attempt
    const failures = failedAt === null ? queued.failures : withFailures(queued, taken, failedAt)
    const triedUntil = hadBegun && !attempt.trial ? failedAt : queued.triedUntil
    queue.add(waiting(queued.task, { offers, failures, triedUntil }))
    wake()
  }

  /** Which of its GPUs was at fault is not known: all of them are passed over. */
  function withFailures({ failures }: QueuedTask, taken: ActiveAttempt['taken'], lastAt: string) {
    const again = taken.map(({ gpuId }) => {
      return { gpuId, times: (failures.find((failure) => failure.gpuId === gpuId)?.times ?? 0) + 1, lastAt }
    })
    return [...failures.filter((failure) => !again.some(({ gpuId }) => gpuId === failure.gpuId)), ...again]
  }

  /** Looks for matches soon: once, however often it is asked for until then. */
  function wake() {
    if (matchingDue) return
    matchingDue = true
    queueMicrotask(() => {
      matchingDue = false
      if (look) isNews = true
      else begin()
    })
  }

  function begin() {
    if (pause.paused) return
    if (queue.size() === 0) return rooms.clear()
    free.catchUp()
    rooms.begin()
    const turns = () => queue.turns(shares.standings())
    const { find, lacks } = rooms
    const matches = matchInTurns({ turns, find, lacks, patience, nowMs: () => clock.now() })
    look = { matches, cancel: () => {} }
    goOn()
  }

  /** Until the look is over, or pauses. */
  function goOn() {
    const { matches } = look!
    let next = matches.next()
    for (; !next.done && !pause.paused; next = matches.next()) {
      if (next.value === null) {
        look!.cancel = clock.after(0, goOn)
        return
      }
      const { queued, choice } = next.value
      queue.remove(queued.task.id)
      const gpuIds = choice.gpus.map(({ id }) => id)
      const { priceMicrosPerHour } = choice.gpus[0]!
      // What the market asks for itself says nothing of what renters want.
      if (queued.task.priority >= 0)
        demand.matched({ wanted: queued.wanted, gpuIds, priceMicrosPerHour, atMs: clock.now() })
      offer(queued, choice)
      rooms.matched(queued)
    }
    look = null
    if (next.done && rooms.end()) isNews = true
    if (isNews) wake()
    isNews = false
  }

  return { queue, waiting, wantedOf: wantedOfTask, enqueue, requeue, wake, stop: () => look?.cancel() }
}
