import { type Piece, shownCharactersMax, withText } from './text-pieces.ts'

/** A text that grows while it is looked at: drawn at most once a frame, however fast it comes. */
export class LiveText {
  pieces = $state.raw<readonly Piece[]>([])
  /** What has come so far, with what is not shown any more. */
  characters = $state(0)
  #arrived = ''
  #arrivedCharacters = 0
  #frame = 0

  append(text: string) {
    this.#arrivedCharacters += text.length
    this.#arrived += text
    // A tab that nobody looks at has no frames.
    if (this.#arrived.length > 2 * shownCharactersMax) this.#arrived = this.#arrived.slice(-shownCharactersMax)
    this.#frame ||= requestAnimationFrame(() => this.#show())
  }

  reset() {
    this.stop()
    this.pieces = []
    this.characters = 0
  }

  stop() {
    cancelAnimationFrame(this.#frame)
    this.#frame = 0
    this.#arrived = ''
    this.#arrivedCharacters = 0
  }

  #show() {
    this.#frame = 0
    this.characters += this.#arrivedCharacters
    this.pieces = withText(this.pieces, this.#arrived)
    this.#arrived = ''
    this.#arrivedCharacters = 0
  }
}
