import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createRoomValue, milliOf, type MixShape, type Room, roomsAfter, type Shape } from './packing.ts'

const shape = (fields: Partial<Shape> = {}): Shape => ({ gpus: 1, milliEach: 1_000, cpuMilli: 0, ramMib: 0, ...fields })
const room = (freeMilli: number[], fields: Partial<Room> = {}): Room => ({
  freeMilli,
  cpuMilli: 64_000,
  ramMib: 64_000,
  ...fields,
})
const asked = (fields: Partial<Shape>, weight = 1, kinds: string[] | null = null): MixShape => ({
  shape: shape(fields),
  weight,
  runsOn: kinds && new Set(kinds),
})
const supply = new Map([['t4', 100_000]])

/** What the machine loses in worth by taking the task, at the GPU where it loses least. */
function loss(mix: readonly MixShape[], before: Room, taken: Shape): number {
  const value = createRoomValue(mix, supply)
  return value('t4', before) - Math.max(...roomsAfter(before, taken).map((after) => value('t4', after)))
}

const anyShape = fc.record({
  gpus: fc.constantFrom(0, 1, 2, 4),
  milliEach: fc.integer({ min: 1, max: 1_000 }),
  cpuMilli: fc.integer({ min: 0, max: 16_000 }),
  ramMib: fc.integer({ min: 0, max: 16_000 }),
})
// A part is asked of one GPU only.
const fairShape = anyShape.map((any) => ({
  ...any,
  milliEach: any.gpus === 1 ? any.milliEach : any.gpus === 0 ? 0 : 1_000,
}))
const anyRoom = fc.record({
  freeMilli: fc
    .array(fc.oneof(fc.constant(1_000), fc.integer({ min: 0, max: 1_000 })), { minLength: 1, maxLength: 8 })
    .map((free) => free.sort((a, b) => b - a)),
  cpuMilli: fc.integer({ min: 0, max: 64_000 }),
  ramMib: fc.integer({ min: 0, max: 64_000 }),
})

test('a task takes exactly what it asks for, of as many GPUs as it asks for, and never more than is there', () => {
  fc.assert(
    fc.property(anyRoom, fairShape, (before, taken) => {
      const sum = ({ freeMilli }: Room) => freeMilli.reduce((all, milli) => all + milli, 0)
      for (const after of roomsAfter(before, taken)) {
        expect(sum(before) - sum(after)).toBe(milliOf(taken))
        expect(after.freeMilli.every((milli) => milli >= 0)).toBe(true)
        expect(after.freeMilli).toEqual([...after.freeMilli].sort((a, b) => b - a))
        expect([before.cpuMilli - after.cpuMilli, before.ramMib - after.ramMib]).toEqual([taken.cpuMilli, taken.ramMib])
        expect(Math.min(after.cpuMilli, after.ramMib)).toBeGreaterThanOrEqual(0)
      }
      const whole = before.freeMilli.filter((milli) => milli >= taken.milliEach).length
      const fits = whole >= taken.gpus && before.cpuMilli >= taken.cpuMilli && before.ramMib >= taken.ramMib
      expect(roomsAfter(before, taken).length > 0).toBe(fits)
    }),
  )
})

test('room is never worth more with less of it', () => {
  fc.assert(
    fc.property(fc.array(fairShape, { minLength: 1, maxLength: 6 }), anyRoom, fairShape, (shapes, before, taken) => {
      const value = createRoomValue(
        shapes.map((each) => ({ shape: each, weight: 1, runsOn: null })),
        supply,
      )
      // GPUs that are given away while nobody takes the processor time would be a gain only if it could be sold twice.
      const { cpuMilli, ramMib } = before
      const after = {
        ...before,
        cpuMilli: Math.max(0, cpuMilli - taken.cpuMilli),
        ramMib: Math.max(0, ramMib - taken.ramMib),
      }
      expect(value('t4', after)).toBeLessThanOrEqual(value('t4', before))
    }),
  )
})

test('a part goes where it leaves no space that nobody asks for', () => {
  const mix = [asked({ milliEach: 600 }), asked({ milliEach: 400 })]
  const [left] = roomsAfter(room([1_000, 400]), shape({ milliEach: 400 })).sort((a, b) => {
    const value = createRoomValue(mix, supply)
    return value('t4', b) - value('t4', a)
  })
  expect(left!.freeMilli).toEqual([1_000, 0])
  expect(loss(mix, room([400]), shape({ milliEach: 400 }))).toBeLessThan(
    loss(mix, room([1_000]), shape({ milliEach: 400 })),
  )
})

test('a task without a GPU goes where processor time is plentiful, not where GPUs need it', () => {
  const mix = [asked({ cpuMilli: 8_000 })]
  const taken = shape({ gpus: 0, milliEach: 0, cpuMilli: 8_000 })
  const plenty = room([1_000, 1_000], { cpuMilli: 64_000 })
  const scarce = room([1_000, 1_000], { cpuMilli: 16_000 })
  expect(loss(mix, plenty, taken)).toBe(0)
  expect(loss(mix, scarce, taken)).toBeGreaterThan(0)
})

test('one GPU is taken from a machine that is used already, where others ask for several at once', () => {
  const mix = [asked({ gpus: 4 }, 1), asked({ gpus: 1 }, 5)]
  const one = shape({ gpus: 1 })
  expect(loss(mix, room([1_000, 0, 0, 0]), one)).toBeLessThan(loss(mix, room([1_000, 1_000, 1_000, 1_000]), one))
})

test('machines that some tasks cannot do without are kept for them, the more the fewer are left', () => {
  const mix = [asked({}, 9), asked({}, 1, ['a100'])]
  const losing = (kind: string, a100Left: number) => {
    const value = createRoomValue(
      mix,
      new Map([
        ['t4', 50_000],
        ['a100', a100Left],
      ]),
    )
    return value(kind, room([1_000])) - value(kind, room([0]))
  }
  expect(losing('t4', 50_000)).toBeLessThan(losing('a100', 50_000))
  expect(losing('a100', 50_000)).toBeLessThan(losing('a100', 5_000))
})
