import { percentOf } from '@orbyte/protocol'
import { isoFromMs } from '../context.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { KeptRoom, KeptRooms } from './kept-rooms.ts'
import type { Rejection, Wanted } from './matching.ts'
import type { QueuedTask } from './task-queue.ts'

/** The shortest that a task may be allowed to run. */
const runMsLeast = 1_000

/** Why a GPU does not take this task though it may be idle: null where it is not kept, or is kept for this task. */
export function keptFrom(queued: QueuedTask, gpu: MarketGpu, rooms: KeptRooms): Rejection | null {
  const room = rooms.roomOn(gpu.id)
  if (!room || room.group === queued.group) return null
  const mostMs = rooms.runMsMost(queued, room)
  const advice =
    mostMs >= runMsLeast
      ? `a task that runs for at most ${Math.floor(mostMs / 1_000)} s could run there before: submit it with that as max_duration_ms`
      : 'too soon for this one to run there before'
  const message = `it is kept for a task that waits for ${sizeOf(room.queued.wanted)} and is expected to start there at ${isoFromMs(room.expectedAtMs)}: ${advice}`
  return { code: 'kept_for_another_task', message, retryable: true }
}

/** The same for its owner. */
export function keptForWhom(room: KeptRoom): { code: string; message: string } {
  const { queued, expectedAtMs, latestAtMs } = room
  return {
    code: 'kept_for_another_task',
    message: `It is kept for a task that wants ${sizeOf(queued.wanted)} and is expected to start at ${isoFromMs(expectedAtMs)}, at the latest at ${isoFromMs(latestAtMs)}. Until then it takes what ends before.`,
  }
}

/** What a task that waits for room is told. `isFirst`: it goes before those that want the same. */
export function whereRoomIsKept(room: KeptRoom, { rooms, isFirst }: { rooms: KeptRooms; isFirst: boolean }) {
  const { gpus, queued, expectedAtMs, latestAtMs } = room
  const names = gpus.map(({ name }) => name).join(', ')
  const whom = isFirst ? 'it' : 'a task that wants the same and goes before it'
  const ready = gpus.length === 1 ? '' : ` ${rooms.readyOf(room)} of these ${gpus.length} GPUs are free for it by now.`
  return {
    code: 'room_kept',
    message: `Room for ${whom} (${sizeOf(queued.wanted)}) is kept on ${names}.${ready} It is expected to start at ${isoFromMs(expectedAtMs)}, at the latest at ${isoFromMs(latestAtMs)}, if what runs there takes as long as it may.`,
  }
}

export function viewRoom(room: KeptRoom, rooms: KeptRooms) {
  return {
    gpu_ids: room.gpus.map(({ id }) => id),
    ready: rooms.readyOf(room),
    expected_at: isoFromMs(room.expectedAtMs),
    latest_at: isoFromMs(room.latestAtMs),
  }
}

function sizeOf({ gpus, part }: Wanted): string {
  if (part !== null) return `${percentOf(part.milli)} of a GPU`
  return gpus === 1 ? 'a whole GPU' : `${gpus} GPUs of one machine`
}
