import { wholeMilli } from '@orbyte/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { roomyMarket, type RoomyMarket, roomyStartMs, type TaskGiven } from './fixture-roomy-market.ts'
import type { KeptRoom } from './kept-rooms.ts'
import type { QueuedTask } from './task-queue.ts'

// Random machines, and renters who want one GPU, a share of one, or several at a time, and more of all than there is, without end.

const longestMs = 20_000
const anyTimes = fc
  .record({
    maxMs: fc.integer({ min: 1_000, max: longestMs }),
    ran: fc.double({ min: 0.05, max: 1, noNaN: true }),
    usual: fc.constantFrom(null, 0.3, 0.8),
  })
  .map(({ maxMs, ran, usual }) => {
    return { maxMs, runMs: Math.ceil(maxMs * ran), usualMs: usual === null ? null : Math.ceil(maxMs * usual) }
  })
const sizes = {
  small: fc.constantFrom(wholeMilli, wholeMilli, 100, 300, 450).map((milli) => ({ gpus: 1, milli })),
  large: fc.oneof(
    fc.integer({ min: 1, max: 4 }).map((gpus) => ({ gpus, milli: wholeMilli })),
    fc.constant({ gpus: 1, milli: 700 }),
  ),
}
const tasksOf = (renters: { min: number; max: number }, size: fc.Arbitrary<{ gpus: number; milli: number }>) =>
  fc
    .record({ renter: fc.integer(renters), size, times: anyTimes })
    .map(({ renter, size: asked, times }): TaskGiven => ({ renter, ...asked, ...times }))
const ownRenter = 9
const anySchedule = fc
  .record({
    machines: fc.array(fc.record({ gpus: fc.integer({ min: 1, max: 4 }), isShared: fc.boolean() }), {
      minLength: 1,
      maxLength: 3,
    }),
    small: fc.array(tasksOf({ min: 0, max: 2 }, sizes.small), { minLength: 2, maxLength: 5 }),
    large: fc.array(tasksOf({ min: 3, max: 5 }, sizes.large), { maxLength: 2 }),
    own: tasksOf({ min: ownRenter, max: ownRenter }, sizes.large),
    keptRoomsMax: fc.integer({ min: 1, max: 4 }),
  })
  .filter(({ machines, own }) =>
    machines.some(({ gpus, isShared }) => gpus >= own.gpus && (isShared || own.milli === wholeMilli)),
  )
type Schedule = typeof anySchedule extends fc.Arbitrary<infer T> ? T : never

/** Goes on for so long: `onLook` hears who has begun and what is kept, before and after each look, and may end it. */
function live(
  { machines, small, large, own, keptRoomsMax }: Schedule,
  forMs: number,
  onLook: (market: RoomyMarket, look: { begun: QueuedTask[]; keptBefore: KeptRoom[] }) => boolean | void,
) {
  const market = roomyMarket({ machines, keptRoomsMax })
  const kinds = [...small, ...large, { ...own, priority: 9 }]
  const waiting = kinds.map(() => 0)
  const kindOf = new Map<QueuedTask, number>()
  while (market.nowMs() - roomyStartMs < forMs) {
    for (const [kind, asked] of kinds.entries())
      for (; waiting[kind]! < 2; waiting[kind]!++) kindOf.set(market.submit(asked), kind)
    const keptBefore = market.kept()
    const begun = market.look().map(({ queued }) => queued)
    for (const queued of begun) if (kindOf.has(queued)) waiting[kindOf.get(queued)!]!--
    if (onLook(market, { begun, keptBefore })) return
    market.advance()
  }
}

/** How long the first of the own renter's tasks waits, which has priority 0 while those after it have 9. */
function waitOfFirst(schedule: Schedule, limitMs: number): number {
  let first: QueuedTask | undefined
  let waitMs = Infinity
  live(schedule, limitMs, (market, { begun }) => {
    first ??= market.submit({ ...schedule.own, priority: 0 })
    if (!begun.includes(first)) return false
    waitMs = market.nowMs() - roomyStartMs
    return true
  })
  return waitMs
}

const limitMs = 30 * longestMs
const nobodyStarves = (keptRoomsMax?: number) =>
  fc.property(anySchedule, (schedule) => {
    const kept = keptRoomsMax ?? schedule.keptRoomsMax
    expect(waitOfFirst({ ...schedule, keptRoomsMax: kept }, limitMs)).toBeLessThanOrEqual(limitMs)
  })

test('in 10,000 random schedules no task starves, however many GPUs and however much of one it wants', () => {
  fc.assert(nobodyStarves(), { numRuns: 10_000 })
}, 300_000)

test('where no room is kept, some wait for ever in such schedules', () => {
  const { failed, numRuns } = fc.check(nobodyStarves(0), { numRuns: 200, seed: 1, endOnFailure: true })
  expect(failed, `of ${numRuns} schedules`).toBe(true)
})

test('whom room is kept for starts no later than it was told at first, if nothing runs for longer than it may', () => {
  fc.assert(
    fc.property(anySchedule, (schedule) => {
      const promisedMs = new Map<string, number>()
      const broken = new Set<string>()
      live(schedule, 4 * longestMs, (market, { begun, keptBefore }) => {
        const groups = new Set(begun.map(({ group }) => group))
        const kept = new Map(market.kept().map((room) => [room.group, room]))
        for (const { group, queued } of keptBefore) {
          if (market.nowMs() > promisedMs.get(group)!) broken.add(`late: ${group}`)
          if (queued.wanted.gpus > 1 && !kept.has(group) && !groups.has(group)) broken.add(`gone: ${group}`)
          if (groups.has(group) || !kept.has(group)) promisedMs.delete(group)
        }
        for (const { group, latestAtMs, expectedAtMs } of kept.values()) {
          if (expectedAtMs > latestAtMs) broken.add(`expected late: ${group}`)
          if (latestAtMs > (promisedMs.get(group) ?? Infinity)) broken.add(`later than told: ${group}`)
          if (!promisedMs.has(group)) promisedMs.set(group, latestAtMs)
        }
      })
      expect(broken).toEqual(new Set())
    }),
    { numRuns: 500 },
  )
}, 300_000)

test('no GPU that is not kept is left idle while somebody waits who fits, nor one that is kept by whoever ends in time', () => {
  fc.assert(
    fc.property(anySchedule, (schedule) => {
      const wronged = new Set<string>()
      live(schedule, 2 * longestMs, (market) => {
        if (market.kept().length > schedule.keptRoomsMax) wronged.add('too many rooms')
        for (const queued of market.queue.all()) {
          const endMs = market.nowMs() + queued.task.max_duration_ms
          const closed = market
            .kept()
            .filter(({ group, expectedAtMs }) => group !== queued.group && expectedAtMs < endMs)
          const open = market.gpus.filter((gpu) => !closed.some(({ gpus }) => gpus.includes(gpu)))
          if (fits(market, queued, open)) wronged.add(queued.task.id)
        }
      })
      expect(wronged).toEqual(new Set())
    }),
    { numRuns: 500 },
  )
}, 300_000)

function fits(market: RoomyMarket, { wanted }: QueuedTask, gpus: readonly MarketGpu[]): boolean {
  const { part, gpus: count } = wanted
  const able = gpus.filter((gpu) =>
    part === null ? market.freeMilli(gpu) === wholeMilli : gpu.sharing && market.freeMilli(gpu) >= part.milli,
  )
  return able.some(({ agentId }) => able.filter((other) => other.agentId === agentId).length >= count)
}
