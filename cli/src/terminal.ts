import type { ReadStream, WriteStream } from 'node:tty'
import type { TableStyle } from './table.ts'
import { truncate } from './text-width.ts'

type Colour = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'
const codes: Readonly<Record<Colour, readonly [on: number, off: number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
}

/** Standard output is for results only; everything that accompanies them goes to standard error. */
export type Terminal = {
  readonly stdin: ReadStream
  readonly stdout: WriteStream
  readonly stderr: WriteStream
  /** Whether a person reads standard output. */
  readonly isTty: boolean
  /** A line of a result. */
  print(text: string): void
  /** A line about what is going on. */
  say(text: string): void
  /** Colours what goes to standard output, where that is wanted. */
  paint(colour: Colour, text: string): string
  /** The same for standard error. */
  tint(colour: Colour, text: string): string
  readonly tableStyle: TableStyle
}

type Streams = { stdin: ReadStream; stdout: WriteStream; stderr: WriteStream }

export function createTerminal(streams: Streams, wanted: { colour: boolean | null }): Terminal {
  const { stdin, stdout, stderr } = streams
  const colours = (stream: WriteStream) => wanted.colour ?? stream.isTTY === true
  const painted = (on: boolean, colour: Colour, text: string) =>
    on && text !== '' ? `\u001b[${codes[colour][0]}m${text}\u001b[${codes[colour][1]}m` : text
  const paint = (colour: Colour, text: string) => painted(colours(stdout), colour, text)
  return {
    stdin,
    stdout,
    stderr,
    isTty: stdout.isTTY === true,
    print: (text) => void stdout.write(`${shown(stdout, text)}\n`),
    say: (text) => void stderr.write(`${shown(stderr, text)}\n`),
    paint,
    tint: (colour, text) => painted(colours(stderr), colour, text),
    get tableStyle() {
      return { width: stdout.isTTY === true ? stdout.columns : null, bold: (text: string) => paint('bold', text) }
    },
  }
}

/** Colours, as `paint` and `tint` write them, and line ends; every other control character came from elsewhere. */
// eslint-disable-next-line no-control-regex -- escape sequences begin with a control character
const driving = /\u001b(?!\[\d{1,2}m)|(?!\u001b)[^\P{Cc}\n\t]|[\u202A-\u202E\u2066-\u2069]/gu

/** A person's terminal obeys control characters, whoever wrote them; a file or a pipe gets the text as it is. */
const shown = (stream: WriteStream, text: string) => (stream.isTTY ? text.replace(driving, '') : text)

/** One line on standard error that is written over while a person watches; plain lines otherwise. */
export type Progress = { readonly isLive: boolean; show(text: string): void; clear(): void }

export function createProgress(terminal: Pick<Terminal, 'stderr' | 'tint'>): Progress {
  const { stderr } = terminal
  const isLive = stderr.isTTY === true
  let shown = ''
  const clear = () => {
    if (isLive && shown !== '') stderr.write('\r\u001b[2K')
    if (isLive) shown = ''
  }
  return {
    isLive,
    clear,
    show(text) {
      if (text === shown) return
      clear()
      shown = text
      stderr.write(isLive ? terminal.tint('dim', truncate(text, (stderr.columns || 80) - 1)) : `${text}\n`)
    },
  }
}
