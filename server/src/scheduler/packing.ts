import { wholeMilli } from '@orbyte/protocol'

/**
 * Which of the machines that could take a task should: the one whose free room is worth least without it. What room is
 * worth follows from what is asked for (the mix) and from how much is left for whom (the supply):
 *
 * - Each shape of the mix is one buyer, weighted by its popularity. To it, a machine's room is worth what its processor,
 *   memory and GPUs together can still give to tasks of that shape: GPUs that no processor time is left for are worth nothing.
 * - What is left of a partly used GPU is worth what chance will still make of it (`expectedFill`). Space that only rare
 *   shapes fit into is worth little, so tasks go where they leave none.
 * - A shape that only some machines can run weighs more, the less of their GPUs is left for it: machines that others cannot do
 *   without are kept for them.
 *
 * FGD (Weng et al., "Beware of Fragmentation", ATC'23) asks whether one more task of each shape would fit; this asks how many.
 * Both know the same. `npm run bench -- packing` compares them.
 */

/** What a task takes, all of it on one machine. */
export type Shape = {
  readonly gpus: number
  /** Of each GPU, in thousandths: 1000 is a whole one, and less is asked of one GPU only. */
  readonly milliEach: number
  readonly cpuMilli: number
  readonly ramMib: number
}

/** What is free on a machine. */
export type Room = {
  /** Of each GPU, in thousandths, most first. */
  readonly freeMilli: readonly number[]
  readonly cpuMilli: number
  readonly ramMib: number
}

/** A shape that tasks have, and how often. */
export type MixShape = {
  readonly shape: Shape
  readonly weight: number
  /** The kinds of machine that can run it; null: all. */
  readonly runsOn: ReadonlySet<string> | null
}

export const milliOf = ({ gpus, milliEach }: Shape): number => gpus * milliEach

/** The rooms that the machine may have with the task on it, one for each choice of GPU that makes a difference. None: no fit. */
export function roomsAfter(room: Room, shape: Shape): Room[] {
  const { freeMilli } = room
  const cpuMilli = room.cpuMilli - shape.cpuMilli
  const ramMib = room.ramMib - shape.ramMib
  if (cpuMilli < 0 || ramMib < 0) return []
  const rest = { cpuMilli, ramMib }
  if (shape.gpus === 0) return [{ freeMilli, ...rest }]
  if (shape.milliEach === wholeMilli) {
    if (freeMilli.length < shape.gpus || freeMilli[shape.gpus - 1]! < wholeMilli) return []
    return [{ freeMilli: [...freeMilli.slice(shape.gpus), ...Array<number>(shape.gpus).fill(0)], ...rest }]
  }
  const rooms: Room[] = []
  for (const [index, free] of freeMilli.entries()) {
    if (free < shape.milliEach) break
    if (free === freeMilli[index + 1]) continue
    rooms.push({ freeMilli: withLess(freeMilli, index, shape.milliEach), ...rest })
  }
  return rooms
}

function withLess(freeMilli: readonly number[], index: number, milli: number): number[] {
  return freeMilli.map((free, at) => (at === index ? free - milli : free)).sort((a, b) => b - a)
}

export type RoomValue = (kind: string, room: Room) => number

/**
 * What room is worth, in thousandths of a GPU that will be given out. `freeMilliOf`: what is left of each kind of machine in
 * all. The answer is good for as long as neither changes by much.
 */
export function createRoomValue(mix: readonly MixShape[], freeMilliOf: ReadonlyMap<string, number>): RoomValue {
  const buyers = scarcityWeighted(mix, freeMilliOf)
  const byKind = new Map<string, ReturnType<typeof valueFor>>()
  return (kind, room) => {
    let value = byKind.get(kind)
    if (!value) {
      value = valueFor(buyers.filter(({ runsOn }) => runsOn === null || runsOn.has(kind)))
      byKind.set(kind, value)
    }
    return value(room)
  }
}

/** One shape's weight is shared out over all that it could run on, so it weighs more where that is little. */
function scarcityWeighted(mix: readonly MixShape[], freeMilliOf: ReadonlyMap<string, number>): MixShape[] {
  const supply = (kinds: Iterable<string>) => {
    let milli = 0
    for (const kind of kinds) milli += freeMilliOf.get(kind) ?? 0
    return Math.max(milli, wholeMilli)
  }
  const all = supply(freeMilliOf.keys())
  const asking = mix.filter(({ shape }) => shape.gpus > 0)
  const weights = asking.reduce((sum, { weight }) => sum + weight, 0)
  return asking.map(({ shape, weight, runsOn }) => {
    const scarcity = runsOn === null ? 1 : all / supply(runsOn)
    return { shape, runsOn, weight: (weight / weights) * scarcity }
  })
}

function valueFor(buyers: readonly MixShape[]): (room: Room) => number {
  const fill = expectedFill(buyers)
  return ({ freeMilli, cpuMilli, ramMib }) => {
    let filled = 0
    let whole = 0
    for (const milli of freeMilli) {
      filled += fill[milli]!
      if (milli === wholeMilli) whole++
    }
    let value = 0
    for (const { shape, weight } of buyers) {
      const runnable = Math.min(limit(cpuMilli, shape.cpuMilli), limit(ramMib, shape.ramMib)) * milliOf(shape)
      const gpus = shape.gpus > 1 ? Math.floor(whole / shape.gpus) * milliOf(shape) : filled
      value += weight * Math.min(gpus, runnable)
    }
    return value
  }
}

const limit = (free: number, each: number) => (each === 0 ? Infinity : Math.floor(free / each))

/** Space that fewer than one in this many tasks would fit into counts as more likely lost than filled. */
const patienceTasks = 50

/**
 * How much of a GPU is given out in the end, by how much of it is free: whatever comes and fits is taken, until nothing that
 * fits has come for too long. A dynamic programme over the free thousandths.
 */
function expectedFill(buyers: readonly MixShape[]): Float64Array {
  const single = new Map<number, number>()
  let all = 0
  for (const { shape, weight } of buyers) {
    if (shape.gpus !== 1) continue
    single.set(shape.milliEach, (single.get(shape.milliEach) ?? 0) + weight)
    all += weight
  }
  const fill = new Float64Array(wholeMilli + 1)
  for (let free = 1; free <= wholeMilli; free++) {
    let taken = 0
    let fitting = 0
    for (const [milli, weight] of single) {
      if (milli > free) continue
      fitting += weight / all
      taken += (weight / all) * (milli + fill[free - milli]!)
    }
    fill[free] = taken / (fitting + 1 / patienceTasks)
  }
  return fill
}
