const graphemes = new Intl.Segmenter()

/** East Asian wide characters and emoji take two columns of a terminal. */
const wide =
  /[\u1100-\u115F\u2E80-\uA4CF\uAC00-\uD7A3\uF900-\uFAFF\uFE30-\uFE6F\uFF00-\uFF60\uFFE0-\uFFE6]|\p{Emoji_Presentation}/u

export function textWidth(text: string): number {
  // Almost everything is plain ASCII.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  return [...graphemes.segment(text)].reduce((width, { segment }) => width + widthOf(segment), 0)
}

const widthOf = (grapheme: string) => (wide.test(grapheme) ? 2 : 1)

/** Cut to `width` columns, with "…" where something was cut. */
export function truncate(text: string, width: number): string {
  if (textWidth(text) <= width) return text
  let kept = ''
  let used = 0
  for (const { segment } of graphemes.segment(text)) {
    if (used + widthOf(segment) > width - 1) break
    kept += segment
    used += widthOf(segment)
  }
  return `${kept}…`
}
