/** A text in pieces, so that what is added to its end does not draw all of it again. `id` stays with a piece. */
export type Piece = { readonly id: number; readonly text: string }

/** Of a longer text the end is shown: what a page holds has a limit, and all of it can be downloaded. */
export const shownCharactersMax = 400_000
const pieceCharacters = 4_000
/** While a text grows, each addition lays out all that is shown. Of 64,000 characters without a space that took too long for a frame. */
export const growingPiecesMax = 8

/** The pieces with `text` after them, without those at the beginning that are too many. Pieces that have not changed are the same. */
export function withText(pieces: readonly Piece[], text: string): Piece[] {
  const last = pieces.at(-1)
  const isOpen = last !== undefined && last.text.length < pieceCharacters
  const whole = isOpen ? pieces.slice(0, -1) : [...pieces]
  const added = isOpen ? last.text + text : text
  let id = isOpen ? last.id : (last?.id ?? -1) + 1
  for (let at = 0; at < added.length; at += pieceCharacters)
    whole.push({ id: id++, text: added.slice(at, at + pieceCharacters) })
  return whole.slice(-shownCharactersMax / pieceCharacters)
}
