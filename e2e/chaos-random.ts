/** Chance that comes again with its seed. */
export type SeededRandom = {
  /** From 0 up to, and not, 1. */
  number(): number
  /** A whole number, both ends included. */
  between(lowest: number, highest: number): number
  /** True so often. */
  chance(share: number): boolean
  pick<T>(list: readonly T[]): T
  letters(count: number): string
  /** One of its own, which no draw of another changes. */
  fork(name: string): SeededRandom
}

/** Mulberry32: small, and good enough for deciding what to break next. */
export function seededRandom(seed: number): SeededRandom {
  let state = seed >>> 0
  const number = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const between = (lowest: number, highest: number) => lowest + Math.floor(number() * (highest - lowest + 1))
  return {
    number,
    between,
    chance: (share) => number() < share,
    pick: (list) => list[between(0, list.length - 1)]!,
    letters: (count) => Array.from({ length: count }, () => String.fromCharCode(between(97, 122))).join(''),
    fork: (name) => seededRandom([...name].reduce((sum, letter) => Math.imul(sum, 31) + letter.charCodeAt(0), seed)),
  }
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
