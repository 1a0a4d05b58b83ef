/**
 * What others wrote (names, prompts, reasons) must not drive this terminal: control characters, and characters that turn
 * the direction of the text, are shown as a space; lines become one.
 */
export function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\u202A-\u202E\u2066-\u2069\u2028\u2029]+/gu, ' ').trim()
}

/** Text of several lines that others wrote: only line ends and tabs survive of its control characters. */
export function printable(text: string): string {
  return text.replace(/\r\n/g, '\n').replace(/[^\P{Cc}\n\t]|[\u202A-\u202E\u2066-\u2069]/gu, '')
}
