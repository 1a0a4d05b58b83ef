/** Things by number. A number that is free again is the next to be given. */
export class Numbered<Thing> {
  readonly #all: (Thing | undefined)[] = []
  readonly #spare: number[] = []

  get(number: number): Thing | undefined {
    return this.#all[number]
  }

  add(make: (number: number) => Thing): Thing {
    const number = this.#spare.pop() ?? this.#all.length
    return (this.#all[number] = make(number))
  }

  release(number: number) {
    this.#all[number] = undefined
    this.#spare.push(number)
  }
}

/** What is known of such things, each at its number. */
type Column = Uint8Array | Uint16Array | Int32Array | Float64Array

/** The same, with room for twice as many. */
export function longer<T extends Column>(column: T): T {
  const grown = new (column.constructor as new (length: number) => T)(2 * column.length)
  grown.set(column)
  return grown
}
