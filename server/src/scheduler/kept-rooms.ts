import { wholeMilli } from '@orbyte/protocol'
import type { Limits, Timing } from '../config.ts'
import type { Clock } from '../context.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { ExpectedEnds } from './expected-ends.ts'
import type { FreeGpus } from './free-gpus.ts'
import { createLackingTasks } from './lacking-tasks.ts'
import type { Found } from './match-in-turns.ts'
import type { Wanted } from './matching.ts'
import { couldRunOn, machinesFor } from './room-candidates.ts'
import { gpusLookedAtMax, isSooner, milliFreeAt, momentOf, soonestSpot, type Spot } from './room-spot.ts'
import type { QueuedTask } from './task-queue.ts'

/**
 * Room that is kept for tasks which want more than what comes free at a time: several GPUs of one machine, or more of a shared GPU
 * than one end gives back. Without it smaller tasks would take each part that comes free, for ever.
 *
 * It is backfilling (Lifka, "The ANL/IBM SP Scheduling System", 1995; Mu'alem and Feitelson, "Utilization, Predictability,
 * Workloads, and User Runtime Estimates in Scheduling the IBM SP2 with Backfilling", 2001), with the first few in turn having
 * room, `keptRoomsMax` at most, and all others going where they delay none of these:
 *
 * - Whoever is first in turn, finds nothing free and has waited for `keepRoomAfterMs` gets the machine on which it could start soonest.
 * - What is free there goes to whoever ends before the task is expected to start, even if it runs for as long as it may; and to
 *   whoever fits beside it. All others find it taken.
 * - So the task starts no later than it was told when the room was first kept, if nothing runs for longer than it may. Where tasks
 *   end sooner, it starts sooner.
 * - Room is for a group of tasks that want the same, whoever of them is first in turn when there is enough of it. It ends when
 *   one of them has got GPUs, there or elsewhere, when none of them waits any more, and when one of its GPUs can no longer run
 *   them; and it moves to where they can start sooner, if that is no later at the latest.
 *
 * All of it is in memory and follows from the queue, the attempts that run and the clock: after a restart it is found anew.
 */
export type KeptRoom = Spot & {
  readonly group: string
  /** Who is first in turn of those that it is kept for. */
  readonly queued: QueuedTask
  readonly searchedAtMs: number
}

type Outside = {
  clock: Pick<Clock, 'now'>
  config: { limits: Pick<Limits, 'keptRoomsMax'>; timing: Pick<Timing, 'keepRoomAfterMs'> }
}
type Parts = {
  free: Pick<FreeGpus, 'find' | 'limit' | 'areShared' | 'index'>
  ends: ExpectedEnds
}
export type KeptRooms = ReturnType<typeof createKeptRooms>

/** How often room is looked for. */
const planEveryMs = 1_000
/** Searches at a time look at about so many GPUs: of a large market, two searches. */
const gpusOfAllMax = 5 * gpusLookedAtMax
/** How long what a search has found holds: that this is where it can start soonest, or that nothing fits. */
const foundMs = 10_000

export function createKeptRooms({ clock, config }: Outside, { free, ends }: Parts) {
  const { keptRoomsMax: roomsMax } = config.limits
  const index = free.index()
  const { occupantsOf } = ends
  const rooms = new Map<string, KeptRoom>()
  const byGpu = new Map<string, KeptRoom>()
  const isLarge = ({ wanted }: QueuedTask) => wanted.gpus > 1 || free.areShared()
  const lacking = createLackingTasks({ isLarge, afterMs: config.timing.keepRoomAfterMs })
  /** Machines that whoever is first in turn waits for, until the rooms on them end: no other room comes there. */
  const promised = new Set<MarketGpu['agentId']>()
  let plannedAtMs = -Infinity
  let isMoreOpen = false

  /** How much of it anybody may have: what is beside the room, when it is expected and at the latest. */
  function mostMilli(gpu: MarketGpu): number {
    const { milliEach, expectedAtMs, latestAtMs } = byGpu.get(gpu.id)!
    if (milliEach === wholeMilli) return 0
    const occupants = occupantsOf(gpu)
    const expected = milliFreeAt(occupants, expectedAtMs, 'expectedEndMs')
    const latest = milliFreeAt(occupants, latestAtMs, 'latestEndMs')
    return Math.max(0, Math.min(expected, latest) - milliEach)
  }

  function keep(room: KeptRoom) {
    rooms.set(room.group, room)
    for (const gpu of room.gpus) byGpu.set(gpu.id, room)
    for (const gpu of room.gpus) free.limit(gpu, () => mostMilli(gpu))
  }

  function open({ group, gpus }: KeptRoom) {
    rooms.delete(group)
    for (const gpu of gpus) byGpu.delete(gpu.id)
    for (const gpu of gpus) free.limit(gpu, null)
    isMoreOpen = true
  }

  /** As it is now: those that run on it may have ended early, or take longer. */
  function renew(room: KeptRoom, nowMs: number) {
    const { gpus, queued } = room
    if (!couldStillRunOn(gpus, queued.wanted, nowMs)) return open(room)
    keep({ ...room, ...momentOf(room, { nowMs, occupantsOf }) })
  }

  function couldStillRunOn(gpus: readonly MarketGpu[], wanted: Wanted, nowMs: number): boolean {
    const again = { ...wanted, retryFailed: true }
    return [wanted, again].some((asked) => couldRunOn(gpus, asked, { index, nowMs }))
  }

  /** `inTheWay`: machines on which others' rooms are. Where no other GPU can run it, those that have failed it are asked again. */
  function search({ wanted, group }: QueuedTask, nowMs: number) {
    const inTheWay = new Set<MarketGpu['agentId']>()
    function* machines(asked: Wanted) {
      for (const gpus of machinesFor(index, asked, nowMs)) {
        const { agentId } = gpus[0]!
        const isOpen = ({ id }: MarketGpu) => !promised.has(agentId) && (byGpu.get(id)?.group ?? group) === group
        const open = gpus.filter(isOpen)
        if (open.length < gpus.length) inTheWay.add(agentId)
        yield open
      }
    }
    const among = (asked: Wanted) => soonestSpot(machines(asked), asked, { nowMs, occupantsOf })
    const spot = among(wanted) ?? (wanted.failedGpus.size === 0 ? null : among({ ...wanted, retryFailed: true }))
    return { spot, inTheWay }
  }

  /** Room for those who are first in turn and have waited for long enough, and better room for who has some. */
  function plan(nowMs: number) {
    const searchesMax = Math.max(2, Math.floor(gpusOfAllMax / index.size))
    let searches = 0
    for (const room of [...rooms.values()]) {
      if (nowMs - room.searchedAtMs < foundMs || ++searches > searchesMax) continue
      const { spot } = search(room.queued, nowMs)
      const isBetter = spot !== null && isSooner(spot, room) && spot.latestAtMs <= room.latestAtMs
      if (isBetter) open(room)
      keep({ ...room, ...(isBetter && spot), searchedAtMs: nowMs })
    }
    if (rooms.size >= roomsMax) return
    promised.clear()
    for (const queued of lacking.due(nowMs)) {
      const { group } = queued
      if (rooms.has(group)) continue
      if (rooms.size >= roomsMax || ++searches > searchesMax) return
      const { spot, inTheWay } = search(queued, nowMs)
      if (spot) keep({ ...spot, group, queued, searchedAtMs: nowMs })
      else if (inTheWay.size === 0) lacking.fitsNowhere(group, nowMs + foundMs)
      // It waits for these rooms to end. Were new ones kept there for those after it, it would wait for ever.
      else for (const agentId of inTheWay) promised.add(agentId)
    }
  }

  function findLent(queued: QueuedTask): Found | null {
    const lent = [...rooms.values()].filter(
      ({ group, gpus, expectedAtMs }) => group === queued.group || ends.latestEndMs(queued, gpus[0]!) <= expectedAtMs,
    )
    if (lent.length === 0 || (lent.length === 1 && lent[0]!.group === queued.group)) return null
    return free.find(
      queued.wanted,
      lent.flatMap(({ gpus }) => gpus),
    )
  }

  return {
    /** A look at the queue begins. */
    begin() {
      lacking.begin()
      for (const room of [...rooms.values()]) renew(room, clock.now())
    },

    /** The best that is free for it: of what anybody may have and of the room of its group; else of what is lent to it. */
    find(queued: QueuedTask): Found | null {
      if (rooms.size === 0) return free.find(queued.wanted)
      return free.find(queued.wanted, rooms.get(queued.group)?.gpus) ?? findLent(queued)
    },

    /** Nothing was found for it, or for those after it that want the same. */
    lacks(queued: QueuedTask) {
      const { task, group } = queued
      if (roomsMax === 0 || task.priority < 0) return
      lacking.note(queued)
      const room = rooms.get(group)
      if (room && room.queued !== queued) keep({ ...room, queued })
    },

    /** It has got a GPU. */
    matched({ group }: QueuedTask) {
      const room = rooms.get(group)
      lacking.matched(group)
      if (room) open(room)
    },

    /** Nobody waits. */
    clear() {
      lacking.clear()
      promised.clear()
      for (const room of [...rooms.values()]) open(room)
    },

    /** The look is over. True: another is due. */
    end(): boolean {
      const nowMs = clock.now()
      const { isNeeded, areAll } = lacking.end(nowMs)
      for (const room of [...rooms.values()]) if (!isNeeded || !lacking.has(room.group)) open(room)
      if (isNeeded && areAll && nowMs - plannedAtMs >= planEveryMs) {
        plannedAtMs = nowMs
        plan(nowMs)
      }
      const isAnotherDue = isMoreOpen || (isNeeded && !areAll)
      isMoreOpen = false
      return isAnotherDue
    },

    /** For this task, or others that want the same. */
    roomFor: ({ group }: Pick<QueuedTask, 'group'>): KeptRoom | null => rooms.get(group) ?? null,
    roomOn: (gpuId: string): KeptRoom | null => byGpu.get(gpuId) ?? null,
    /** How long it may run at most, to be let in there before. */
    runMsMost: (queued: QueuedTask, room: KeptRoom) =>
      queued.task.max_duration_ms + room.expectedAtMs - ends.latestEndMs(queued, room.gpus[0]!),
    /** How many of its GPUs have enough free by now. */
    readyOf: ({ gpus, milliEach }: KeptRoom): number =>
      gpus.filter((gpu) => milliFreeAt(occupantsOf(gpu), -Infinity, 'latestEndMs') >= milliEach).length,
    all: (): Iterable<KeptRoom> => rooms.values(),
  }
}
