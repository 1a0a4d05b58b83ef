import TinyQueue from 'tinyqueue'
import type { MarketGpu } from '@orbyte/server/gpus/gpu-registry.ts'
import { createPatience, matchInTurns } from '@orbyte/server/scheduler/match-in-turns.ts'
import { createTaskQueue, type QueuedTask } from '@orbyte/server/scheduler/task-queue.ts'
import type { OpenTask } from '@orbyte/server/tasks/task-store.ts'
import { createServingGpus } from './serving-gpus.ts'

export type Request = {
  /** Since the first. */
  readonly atSeconds: number
  /** On a GPU of speed 1. */
  readonly runSeconds: number
  readonly model: string
}
export type Replay = {
  readonly coldLoads: number
  /** From its arrival until it runs, of each request. */
  readonly waitSeconds: readonly number[]
  /** Of the GPUs' time, loading included. */
  readonly busyShare: number
  readonly hours: number
}
export type ReplayOptions = {
  /** Whether the matcher is told which models are needed and loaded. */
  readonly isWarmthKnown: boolean
  /** So much faster than they came. */
  readonly compression: number
  readonly warmPatienceMs: number
  readonly seed: number
}

const equals = { standingOf: () => 0, stepOf: () => 1 }

/** Sends the requests, as tasks of one renter, through the market's queue and matcher, on GPUs that are made up. */
export function replay(requests: readonly Request[], options: ReplayOptions): Replay {
  const gpus = createServingGpus(options)
  const queue = createTaskQueue({ agePerPriorityMs: 1 })
  const patience = createPatience(options.warmPatienceMs)
  const ends = new TinyQueue<{ gpu: MarketGpu; atSeconds: number }>([], (a, b) => a.atSeconds - b.atSeconds)
  const waitSeconds: number[] = []
  let [coldLoads, busySeconds, nowSeconds] = [0, 0, 0]

  function begin(request: Request, gpu: MarketGpu) {
    const loadSeconds = gpus.take(gpu, request.model)
    const runSeconds = request.runSeconds / gpus.speedOf(gpu)
    if (loadSeconds > 0) coldLoads++
    busySeconds += loadSeconds + runSeconds
    waitSeconds.push(nowSeconds + loadSeconds - request.atSeconds / options.compression)
    ends.push({ gpu, atSeconds: nowSeconds + loadSeconds + runSeconds })
  }

  function look() {
    const nowMs = nowSeconds * 1_000
    const find = ({ wanted }: QueuedTask) => gpus.find(wanted, nowMs)
    const turns = () => queue.turns(equals)
    for (const match of matchInTurns({ turns, find, lacks: () => {}, patience, nowMs: () => nowMs })) {
      if (!match) continue
      queue.remove(match.queued.task.id)
      begin(requests[Number(match.queued.task.id)]!, match.choice.gpus[0]!)
    }
  }

  function endUntil(atSeconds: number) {
    for (let next = ends.peek(); next && next.atSeconds <= atSeconds; next = ends.peek()) {
      ends.pop()
      nowSeconds = next.atSeconds
      gpus.giveBack(next.gpu)
      look()
    }
  }

  for (const [number, { atSeconds, model }] of requests.entries()) {
    endUntil(atSeconds / options.compression)
    nowSeconds = atSeconds / options.compression
    // All that the queue reads of a task.
    const fields = { renter_id: 'renter', priority: 0, created_at: new Date(nowSeconds * 1_000).toISOString() }
    const task = { id: String(number).padStart(9, '0'), ...fields } as unknown as OpenTask
    const wanted = gpus.wantedFor(model)
    queue.add({ task, wanted, group: model, waitUntilMs: Infinity, triedUntil: null, offers: 0, failures: [] })
    look()
  }
  endUntil(Infinity)
  return { coldLoads, waitSeconds, busyShare: busySeconds / nowSeconds / gpus.count, hours: nowSeconds / 3_600 }
}
