import { micros, wholeMilli } from '@orbyte/protocol'
import { agentId, gpuId, marketGpu, numbered } from '../gpus/fixture-gpus.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { ActiveAttempt } from './attempt-book.ts'
import { createExpectedEnds } from './expected-ends.ts'
import { createFairShare } from './fair-share.ts'
import { wanted as anyWanted } from './fixture-wanted.ts'
import { GpuIndex } from './gpu-index.ts'
import { type Choice, GpuSearch } from './gpu-search.ts'
import { createKeptRooms, type KeptRoom } from './kept-rooms.ts'
import { createPatience, matchInTurns } from './match-in-turns.ts'
import type { Wanted } from './matching.ts'
import { createTaskQueue, type QueuedTask } from './task-queue.ts'

export type MachineGiven = { readonly gpus: number; readonly isShared: boolean }
export type TaskGiven = {
  readonly renter: number
  /** Whole ones; or, if less than a thousand thousandths are asked for, a part of one. */
  readonly gpus: number
  readonly milli: number
  readonly maxMs: number
  /** How long it really runs. */
  readonly runMs: number
  /** What the market takes it for; null: it has seen none. */
  readonly usualMs?: number | null
  readonly priority?: number
  /** The number of the GPU that it wants and no other. */
  readonly on?: number
}
export type Running = {
  readonly queued: QueuedTask
  readonly gpus: readonly MarketGpu[]
  readonly milli: number
  readonly sinceMs: number
  readonly endMs: number
}
export type RoomyMarket = ReturnType<typeof roomyMarket>

export const roomyStartMs = 1_800_000_000_000

/**
 * A market of the real queue, shares, turns, index and kept rooms, on GPUs that are ready at once and run what they are told to, for
 * as long as it is said to run. Time goes from one end to the next.
 */
export function roomyMarket({ machines, keptRoomsMax = 4, keepRoomAfterMs = 5_000 }: RoomyGiven) {
  let nowMs = roomyStartMs
  const clock = { now: () => nowMs }
  const queue = createTaskQueue({ agePerPriorityMs: 1_000 })
  const share = createFairShare({ halfLifeMs: 60_000, quantumMs: 10_000 })
  const patience = createPatience(0)
  const index = new GpuIndex()
  const search = new GpuSearch(index)
  const gpus: MarketGpu[] = []
  const given = new Map<string, TaskGiven>()
  const running = new Set<Running>()
  const limits = new Map<MarketGpu, () => number>()
  let choice: Choice | null = null

  const holdersOf = (gpu: MarketGpu) => [...running].filter((one) => one.gpus.includes(gpu))
  const freeMilli = (gpu: MarketGpu) => holdersOf(gpu).reduce((free, { milli }) => free - milli, wholeMilli)
  function refresh(gpu: MarketGpu) {
    const openMilli = Math.min(freeMilli(gpu), limits.get(gpu)?.() ?? wholeMilli)
    const isThere = gpu.connected && !gpu.maintenance
    index.put(gpu, { isThere, freeMilli: isThere ? openMilli : 0 })
  }

  for (const [machine, { gpus: count, isShared }] of machines.entries())
    for (let at = 0; at < count; at++) {
      const gpu = marketGpu({ ...numbered(gpus.length + 1), agentId: agentId(machine), vramGb: 100, sharing: isShared })
      gpus.push(gpu)
      refresh(gpu)
    }

  /** What the market's book would say of what runs. */
  const activeOf = ({ queued, gpus: had, milli, sinceMs }: Running) =>
    ({
      queued,
      taken: had.map(({ id }) => ({ gpuId: id, milli })),
      standing: 'open',
      askedAtMs: sinceMs,
      readyAtMs: sinceMs,
      warmth: 'loaded',
      durationMsMax: queued.task.max_duration_ms,
    }) as unknown as ActiveAttempt
  const book = { ofGpu: (id: string) => holdersOf(gpus.find((gpu) => gpu.id === id)!).map(activeOf) }
  const config = { limits: { keptRoomsMax }, timing: { keepRoomAfterMs, acceptMs: 0, deadMs: 0 } }
  const ends = createExpectedEnds({ clock, config }, { book })

  const free = {
    find(wanted: Wanted, lent: readonly MarketGpu[] = []) {
      for (const gpu of lent) index.setFree(gpu.number, freeMilli(gpu))
      choice = search.choose(wanted, { nowMs, random: () => 0 })
      for (const gpu of lent) refresh(gpu)
      return choice && { choice, isWarm: true }
    },
    limit(gpu: MarketGpu, mostMilli: (() => number) | null) {
      if (mostMilli) limits.set(gpu, mostMilli)
      else limits.delete(gpu)
      refresh(gpu)
    },
    index: () => index,
    areShared: () => gpus.some(({ sharing }) => sharing),
  }
  const rooms = createKeptRooms({ clock, config }, { free, ends })

  function submit(asked: TaskGiven): QueuedTask {
    const { renter, milli, maxMs, usualMs = null, priority = 5, on } = asked
    const id = `task_${String(given.size).padStart(6, '0')}`
    given.set(id, asked)
    const created_at = new Date(nowMs).toISOString()
    const part = milli < wholeMilli ? { milli, vramGb: 1 } : null
    const timings = { runMs: () => usualMs, loadMs: () => 0 }
    const group = `${asked.gpus} ${milli} ${maxMs} ${usualMs} ${on}`
    const requirements = on === undefined ? {} : { gpu_id: gpuId(on) }
    const task = { id, renter_id: `user_${renter}`, priority, created_at, max_duration_ms: maxMs, max_wait_ms: 0 }
    const maxPriceMicrosPerHour = micros(1e12)
    const wanted = anyWanted({ key: group, gpus: asked.gpus, part, requirements, timings, maxPriceMicrosPerHour })
    const queued = { task, wanted, group, waitUntilMs: nowMs, triedUntil: null, offers: 0, failures: [] }
    queue.add(queued as unknown as QueuedTask)
    return queue.get(id)!
  }

  const heldBy = ({ gpus: had, milli, sinceMs }: Running) => ({ gpus: (had.length * milli) / wholeMilli, sinceMs })

  function begin(queued: QueuedTask) {
    const { task } = queued
    const { gpus: chosen, milliEach: milli } = choice!
    const one = { queued, gpus: chosen, milli, sinceMs: nowMs, endMs: nowMs + given.get(task.id)!.runMs }
    queue.remove(task.id)
    running.add(one)
    share.hold(task.renter_id, heldBy(one))
    for (const gpu of chosen) refresh(gpu)
    rooms.matched(queued)
    return one
  }

  function end(one: Running) {
    running.delete(one)
    share.free(one.queued.task.renter_id, heldBy(one), nowMs)
    for (const gpu of one.gpus) refresh(gpu)
  }

  /** Looks at the queue until nothing more is open to anybody. Who has begun. */
  function look(): Running[] {
    const begun: Running[] = []
    const standings = { standingOf: (renterId: string) => share.standingOf(renterId, nowMs), stepOf: share.stepOf }
    for (let isMoreOpen = true; isMoreOpen; isMoreOpen = rooms.end()) {
      rooms.begin()
      const { find, lacks } = rooms
      const turns = () => queue.turns(standings)
      for (const match of matchInTurns({ turns, find, lacks, patience, nowMs: clock.now }))
        if (match) begun.push(begin(match.queued))
    }
    return begun
  }

  return {
    ...{ queue, gpus, running, rooms, submit, look, end, refresh, freeMilli },
    nowMs: () => nowMs,
    kept: (): KeptRoom[] => [...rooms.all()],
    /** To the next end, or for a second, since the market looks once a second if nothing happens. */
    advance() {
      const nextMs = Math.min(nowMs + 1_000, ...[...running].map(({ endMs }) => endMs))
      nowMs = nextMs
      for (const one of [...running]) if (one.endMs <= nowMs) end(one)
    },
  }
}

type RoomyGiven = { machines: readonly MachineGiven[]; keptRoomsMax?: number; keepRoomAfterMs?: number }
