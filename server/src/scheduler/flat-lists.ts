import { longer } from '../gpus/numbered.ts'

/** Where in an array there is room: what one leaves is for the next that needs as much. */
export class Space {
  readonly #left = new Map<number, number[]>()
  /** All that was ever taken is before it. */
  end = 0

  /** Where so many may begin. */
  take(length: number): number {
    const start = this.#left.get(length)?.pop()
    if (start !== undefined) return start
    this.end += length
    return this.end - length
  }

  leave(start: number, length: number) {
    const left = this.#left.get(length)
    if (left) left.push(start)
    else this.#left.set(length, [start])
  }
}

/** Short lists of numbers in one array, each by the number of whose it is: an object for each would be a detour. */
export class Lists {
  readonly #space = new Space()
  values = new Int32Array(1_024)
  starts = new Int32Array(64)
  lengths = new Int32Array(64)

  /** In place of what was there. */
  set(number: number, list: readonly number[]) {
    while (number >= this.starts.length) {
      this.starts = longer(this.starts)
      this.lengths = longer(this.lengths)
    }
    if (this.lengths[number]! > 0) this.#space.leave(this.starts[number]!, this.lengths[number]!)
    const start = list.length === 0 ? 0 : this.#space.take(list.length)
    while (this.#space.end > this.values.length) this.values = longer(this.values)
    this.values.set(list, start)
    this.starts[number] = start
    this.lengths[number] = list.length
  }
}
