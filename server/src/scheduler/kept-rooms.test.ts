import { wholeMilli } from '@orbyte/protocol'
import { expect, test } from 'vitest'
import { roomyMarket, type RoomyMarket, type TaskGiven } from './fixture-roomy-market.ts'
import { keptForWhom, keptFrom, viewRoom, whereRoomIsKept } from './room-explanation.ts'
import type { QueuedTask } from './task-queue.ts'

const alone = (gpus: number) => ({ gpus, isShared: false })
const shared = { gpus: 1, isShared: true }
const task = (fields: Partial<TaskGiven> = {}): TaskGiven => {
  const maxMs = fields.maxMs ?? 10_000
  return { renter: 1, gpus: 1, milli: wholeMilli, maxMs, runMs: maxMs, ...fields }
}
const keepRoomAfterMs = 5_000

/** Looks, and says who of these has begun. */
const begin = (market: RoomyMarket, ...tasks: QueuedTask[]) => {
  const begun = market.look().map(({ queued }) => queued)
  return tasks.filter((one) => begun.includes(one))
}
function pass(market: RoomyMarket, ms: number) {
  const untilMs = market.nowMs() + ms
  while (market.nowMs() < untilMs) {
    market.advance()
    market.look()
  }
}

/** Two GPUs of one machine, of which one is busy for `busyMs`, and a task that wants both and has waited for long enough. */
function waitsForTwo(busyMs: number, machines = [alone(2)]) {
  const market = roomyMarket({ machines, keepRoomAfterMs })
  market.submit(task({ maxMs: busyMs }))
  market.look()
  const large = market.submit(task({ renter: 2, gpus: 2, maxMs: 20_000 }))
  pass(market, keepRoomAfterMs)
  return { market, large }
}

test('a GPU that is free is kept once a task that wants two has waited for long enough, and not before', () => {
  const market = roomyMarket({ machines: [alone(2)], keepRoomAfterMs })
  market.submit(task({ maxMs: 60_000 }))
  market.look()
  market.submit(task({ renter: 2, gpus: 2 }))
  pass(market, keepRoomAfterMs - 1_000)
  const early = market.submit(task({ maxMs: 1_000 }))
  expect(begin(market, early)).toEqual([early])
  pass(market, 1_000)
  expect(market.kept()).toMatchObject([{ latestAtMs: market.nowMs() + 60_000 - keepRoomAfterMs }])
  const late = market.submit(task({ maxMs: 60_000 }))
  expect(begin(market, late)).toEqual([])
})

test('what is kept goes to whoever ends before it is needed, even if it runs for as long as it may', () => {
  const { market, large } = waitsForTwo(30_000)
  const [long, short] = [market.submit(task({ maxMs: 25_001 })), market.submit(task({ maxMs: 25_000 }))]
  expect(begin(market, long, short)).toEqual([short])
  pass(market, 24_000)
  expect(market.queue.get(large.task.id)).toBe(large)
  market.advance()
  expect(begin(market, large, long)).toEqual([large])
})

test('it counts what is expected of those that run, and the longest that the others may', () => {
  const market = roomyMarket({ machines: [alone(2)], keepRoomAfterMs })
  market.submit(task({ maxMs: 60_000, usualMs: 10_000 }))
  market.look()
  market.submit(task({ renter: 2, gpus: 2 }))
  pass(market, keepRoomAfterMs)
  expect(market.kept()).toMatchObject([{ expectedAtMs: market.nowMs() + 5_000, latestAtMs: market.nowMs() + 55_000 }])
  const usuallyShort = market.submit(task({ maxMs: 6_000, usualMs: 1_000 }))
  expect(begin(market, usuallyShort)).toEqual([])
  // It runs longer than is usual: now nobody knows more than its maximum.
  pass(market, 5_000)
  expect(market.kept()).toMatchObject([{ expectedAtMs: market.nowMs() + 50_000, latestAtMs: market.nowMs() + 50_000 }])
  expect(market.queue.get(usuallyShort.task.id)).toBeUndefined()
})

test('of a shared GPU others have what is beside the room: when it is expected, and at the latest', () => {
  const market = roomyMarket({ machines: [shared], keepRoomAfterMs })
  market.submit(task({ milli: 300, maxMs: 60_000 }))
  market.submit(task({ milli: 500, maxMs: 20_000 }))
  market.look()
  market.submit(task({ renter: 2, milli: 600 }))
  pass(market, keepRoomAfterMs)
  expect(market.kept()).toMatchObject([{ milliEach: 600, latestAtMs: market.nowMs() + 15_000 }])
  const [wide, narrow, second] = [200, 100, 100].map((milli) => market.submit(task({ milli, maxMs: 60_000 })))
  expect(begin(market, wide!, narrow!, second!)).toEqual([narrow])
})

test('room is kept on the machine where the task can start soonest, and moves to where that is sooner', () => {
  const market = roomyMarket({ machines: [alone(2), alone(2)], keepRoomAfterMs })
  for (const [at, maxMs] of [30_000, 30_000, 60_000, 28_000].entries()) market.submit(task({ on: at + 1, maxMs }))
  market.look()
  market.submit(task({ renter: 2, gpus: 2 }))
  pass(market, keepRoomAfterMs)
  const keptOn = () => market.kept().map(({ gpus }) => gpus.map((gpu) => market.gpus.indexOf(gpu) + 1).sort())
  expect(keptOn()).toEqual([[1, 2]])
  const long = [...market.running].find(({ queued }) => queued.task.max_duration_ms === 60_000)
  market.end(long!)
  pass(market, 9_000)
  expect(keptOn()).toEqual([[1, 2]])
  pass(market, 2_000)
  expect(keptOn()).toEqual([[3, 4]])
  expect(market.kept()).toMatchObject([{ latestAtMs: market.nowMs() + 28_000 - keepRoomAfterMs - 11_000 }])
})

test('no more rooms are kept on a machine while whoever is first in turn waits for those on it to end', () => {
  const market = roomyMarket({ machines: [{ gpus: 2, isShared: true }], keptRoomsMax: 2, keepRoomAfterMs })
  for (const maxMs of [20_000, 30_000]) market.submit(task({ maxMs }))
  market.look()
  const small = [40_000, 41_000].map((maxMs) => market.submit(task({ maxMs })))
  pass(market, keepRoomAfterMs)
  const keptFor = () => market.kept().map(({ queued }) => queued)
  expect(keptFor()).toEqual(small)
  const large = market.submit(task({ renter: 2, gpus: 2 }))
  for (const maxMs of [42_000, 43_000]) market.submit(task({ maxMs }))
  pass(market, 16_000)
  expect(keptFor()).toEqual(small.slice(1))
  pass(market, 10_000)
  expect(keptFor()).toEqual([large])
  pass(market, 40_000)
  expect(market.queue.get(large.task.id)).toBeUndefined()
})

test('no room moves to a machine that whoever is first in turn waits for', () => {
  const machines = [
    { gpus: 2, isShared: true },
    { gpus: 1, isShared: true },
  ]
  const market = roomyMarket({ machines, keepRoomAfterMs })
  market.submit(task({ on: 1, maxMs: 95_000 }))
  market.submit(task({ on: 2, maxMs: 90_000 }))
  market.submit(task({ on: 3, maxMs: 120_000, usualMs: 40_000 }))
  market.look()
  market.submit(task({ on: 1, maxMs: 90_000 }))
  const movable = market.submit(task({ maxMs: 90_000 }))
  pass(market, keepRoomAfterMs)
  const isKeptOn = () => market.gpus.indexOf(market.rooms.roomFor(movable)!.gpus[0]!) + 1
  expect(isKeptOn()).toBe(3)
  const large = market.submit(task({ renter: 2, gpus: 2 }))
  pass(market, 50_000)
  // What runs on the third takes longer than is usual, so the second is expected to be free before it.
  expect(isKeptOn()).toBe(3)
  market.queue.remove(large.task.id)
  pass(market, 12_000)
  expect(isKeptOn()).toBe(2)
})

test('room ends when nobody waits for it any more, and what was kept is there for all', () => {
  const { market, large } = waitsForTwo(60_000)
  const small = market.submit(task({ maxMs: 60_000 }))
  expect(begin(market, small)).toEqual([])
  market.queue.remove(large.task.id)
  expect(begin(market, small)).toEqual([small])
  expect(market.kept()).toEqual([])
})

test('where its machine goes away or takes nothing new, room is kept elsewhere', () => {
  for (const trouble of [{ connected: false }, { maintenance: true }]) {
    const { market } = waitsForTwo(60_000, [alone(2), alone(2)])
    market.submit(task({ maxMs: 70_000 }))
    expect(market.kept()).toEqual([])
    market.look()
    market.submit(task({ renter: 3, gpus: 2, maxMs: 90_000 }))
    pass(market, keepRoomAfterMs + 1_000)
    const [kept] = market.kept()
    Object.assign(kept!.gpus[0]!, trouble)
    market.refresh(kept!.gpus[0]!)
    pass(market, 1_000)
    const [moved] = market.kept()
    expect(moved!.gpus[0]!.agentId).not.toBe(kept!.gpus[0]!.agentId)
  }
})

test('none is kept where that is switched off, and none for what the market asks for itself', () => {
  const market = roomyMarket({ machines: [alone(2)], keepRoomAfterMs, keptRoomsMax: 0 })
  market.submit(task({ maxMs: 60_000 }))
  market.look()
  market.submit(task({ renter: 2, gpus: 2 }))
  pass(market, 2 * keepRoomAfterMs)
  expect(market.kept()).toEqual([])
  const other = roomyMarket({ machines: [alone(2)], keepRoomAfterMs })
  other.submit(task({ maxMs: 60_000 }))
  other.look()
  other.submit(task({ renter: 2, gpus: 2, priority: -1 }))
  pass(other, 2 * keepRoomAfterMs)
  expect(other.kept()).toEqual([])
})

test('where nobody wants more than one GPU that is not shared, nothing is kept, however long they wait', () => {
  const market = roomyMarket({ machines: [alone(2), alone(1)], keepRoomAfterMs: 0 })
  for (let count = 0; count < 20; count++) market.submit(task({ renter: count % 3, maxMs: 60_000 - count }))
  pass(market, 50_000)
  expect(market.queue.size()).toBeGreaterThan(0)
  expect(market.kept()).toEqual([])
})

test('whoever comes first in turn keeps its turn: room for a larger task behind it does not take it away', () => {
  const market = roomyMarket({ machines: [alone(2)], keepRoomAfterMs })
  market.submit(task({ maxMs: 20_000 }))
  market.submit(task({ maxMs: 30_000 }))
  market.look()
  const first = market.submit(task({ renter: 2, maxMs: 40_000 }))
  const large = market.submit(task({ renter: 3, gpus: 2, priority: 5 }))
  market.submit(task({ renter: 3, maxMs: 1_000 }))
  pass(market, 20_000)
  expect(market.queue.get(first.task.id)).toBeUndefined()
  expect(market.queue.get(large.task.id)).toBe(large)
})

test('who waits hears where room is kept and until when, who is kept out what would let it in, the owner for whom', () => {
  const { market, large } = waitsForTwo(60_000)
  const [room] = market.kept()
  const { rooms } = market
  const at = (ms: number) => new Date(market.nowMs() + ms).toISOString()
  expect(viewRoom(room!, rooms)).toEqual({
    gpu_ids: room!.gpus.map(({ id }) => id),
    ready: 1,
    expected_at: at(55_000),
    latest_at: at(55_000),
  })
  expect(whereRoomIsKept(room!, { rooms, isFirst: true })).toEqual({
    code: 'room_kept',
    message: `Room for it (2 GPUs of one machine) is kept on a GPU, a GPU. 1 of these 2 GPUs are free for it by now. It is expected to start at ${at(55_000)}, at the latest at ${at(55_000)}, if what runs there takes as long as it may.`,
  })
  const small = market.submit(task({ maxMs: 90_000 }))
  const [gpu] = room!.gpus
  expect(keptFrom(small, gpu!, rooms)).toEqual({
    code: 'kept_for_another_task',
    message: `it is kept for a task that waits for 2 GPUs of one machine and is expected to start there at ${at(55_000)}: a task that runs for at most 55 s could run there before: submit it with that as max_duration_ms`,
    retryable: true,
  })
  expect(keptFrom(large, gpu!, rooms)).toBeNull()
  expect(keptForWhom(room!)).toMatchObject({
    code: 'kept_for_another_task',
    message: expect.stringContaining('2 GPUs of one machine'),
  })
  const allowed = market.submit(task({ maxMs: 55_000 }))
  expect(begin(market, small, allowed)).toEqual([allowed])
})
