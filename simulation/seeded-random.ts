/** Chance that a seed decides: the same seed gives the same numbers for ever. */
export type SeededRandom = {
  /** From 0 to below 1. */
  unit(): number
  /** A whole number, both ends included. */
  integer(lowest: number, highest: number): number
  chance(probability: number): boolean
  /** Undefined for an empty list. */
  pick<T>(list: readonly T[]): T | undefined
  /** A waiting time whose mean is `meanMs`, as of things that happen independently of each other; at least 1. */
  waitMs(meanMs: number): number
  bytes(count: number): Uint8Array
  /** Chance of its own, so that what one part of the world draws does not shift what another one gets. */
  fork(name: string): SeededRandom
}

/** The generator sfc32 (Chris Doty-Humphrey, PractRand 0.9), its state filled from the seed and a name by FNV-1a. */
export function seededRandom(seed: number, name = ''): SeededRandom {
  const next = sfc32(fnv1a(`${seed} ${name}`))
  const unit = () => next() / 2 ** 32
  const random: SeededRandom = {
    unit,
    integer: (lowest, highest) => lowest + Math.floor(unit() * (highest - lowest + 1)),
    chance: (probability) => unit() < probability,
    pick: (list) => list[Math.floor(unit() * list.length)],
    waitMs: (meanMs) => Math.max(1, Math.round(-Math.log(1 - unit()) * meanMs)),
    bytes(count) {
      const bytes = new Uint8Array(count)
      for (let at = 0; at < count; at++) bytes[at] = next() & 0xff
      return bytes
    },
    fork: (other) => seededRandom(seed, `${name}/${other}`),
  }
  return random
}

function sfc32(seed: number): () => number {
  let [a, b, c, counter] = [0, seed, seed ^ 0x9e3779b9, 1]
  const next = () => {
    const sum = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + sum) | 0
    return sum >>> 0
  }
  // Its author's advice: the first numbers still show the seed.
  for (let round = 0; round < 15; round++) next()
  return next
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return hash
}
