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
