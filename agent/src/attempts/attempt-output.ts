import { createHash } from 'node:crypto'
import { fileChunkBytesMax, TaskFileName } from '@orbyte/protocol'
import type { Clock } from '../clock.ts'
import type { ReliableMessage } from '../connection/wire-messages.ts'
import { AttemptError, type OutputFile } from '../executors/executor.ts'
import type { AttemptName } from './result-journal.ts'

/** Characters (UTF-16) in one message. */
const chunkCharactersMax = 65_536
const logLineCharactersMax = 16_384
const logLinesAtOnceMax = 100
/** A message has at most a million bytes, and a character may need six of them. */
const logCharactersAtOnceMax = 131_072
const logMs = 100
/** As many as a market keeps. */
const logLinesMax = 10_000
const mimeTypePattern = /^[a-z]+\/[a-z0-9.+-]+$/

export type AttemptOutputOptions = {
  readonly attempt: AttemptName
  readonly clock: Clock
  readonly bytesMax: number
  runMs(): number
  /** False: there is no room for it. */
  send(message: ReliableMessage): boolean
  /** Called once: what comes after it is dropped. */
  onFailure(error: AttemptError): void
}

/** What an attempt puts out, cut into messages: text as soon as the event loop turns, log lines a few times a second. */
export class AttemptOutput {
  readonly #options: AttemptOutputOptions
  readonly #names = new Set<string>()
  #text = ''
  #offset = 0
  #lines: string[] = []
  /** Those that were sent too. */
  #lineCount = 0
  #bytes = 0
  #isTextDue = false
  #isLogDue = false
  #isClosed = false

  constructor(options: AttemptOutputOptions) {
    this.#options = options
  }

  text(text: string): void {
    if (text === '' || !this.#fits(Buffer.byteLength(text))) return
    this.#text += text
    if (this.#text.length >= chunkCharactersMax) this.#flushText()
    else if (!this.#isTextDue) void this.#flushTextSoon()
  }

  log(line: string): void {
    if (this.#isClosed || this.#lineCount > logLinesMax) return
    this.#lineCount++
    this.#lines.push(this.#lineCount > logLinesMax ? '… the log is cut here.' : line.slice(0, logLineCharactersMax))
    const characters = this.#lines.reduce((sum, { length }) => sum + length, 0)
    if (this.#lines.length >= logLinesAtOnceMax || characters >= logCharactersAtOnceMax - logLineCharactersMax)
      this.#flushLog()
    else if (!this.#isLogDue) void this.#flushLogSoon()
  }

  file({ name, mimeType, bytes }: OutputFile): void {
    if (!this.#fits(bytes.length)) return
    if (!TaskFileName.safeParse(name).success || !mimeTypePattern.test(mimeType) || this.#names.has(name)) {
      return this.#fail(
        new AttemptError('engine_failed', `The engine gave a file that cannot be named "${name}".`, 'provider'),
      )
    }
    this.#names.add(name)
    this.flush()
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    let offset = 0
    do {
      const data = buffer.toString('base64', offset, Math.min(bytes.length, offset + fileChunkBytesMax))
      const file = { name, mime_type: mimeType, sha256, size_bytes: bytes.length, offset, data }
      this.#send({ type: 'attempt.file', ...this.#options.attempt, ...file, run_ms: this.#options.runMs() })
      offset += fileChunkBytesMax
    } while (offset < bytes.length)
  }

  /** Whether the output data still fits beside what was put out. */
  fitsAtEnd(outputData: string): boolean {
    return this.#fits(Buffer.byteLength(outputData))
  }

  flush(): void {
    this.#flushText(true)
    this.#flushLog()
  }

  /** Nothing is sent any more. */
  close(): void {
    this.#isClosed = true
  }

  async #flushTextSoon(): Promise<void> {
    this.#isTextDue = true
    await this.#options.clock.sleep(0)
    this.#isTextDue = false
    this.#flushText()
  }

  async #flushLogSoon(): Promise<void> {
    this.#isLogDue = true
    await this.#options.clock.sleep(logMs)
    this.#isLogDue = false
    this.#flushLog()
  }

  #flushText(isLast = false): void {
    while (this.#text !== '' && !this.#isClosed) {
      const charactersMax = Math.min(this.#text.length, chunkCharactersMax)
      const isWhole = isLast && charactersMax === this.#text.length
      const text = this.#text.slice(0, isWhole ? charactersMax : wholeCharacters(this.#text, charactersMax))
      // Half a character waits for its other half.
      if (text === '') return
      this.#text = this.#text.slice(text.length)
      const offset = this.#offset
      this.#offset += text.length
      const { attempt, runMs } = this.#options
      this.#send({ type: 'attempt.output', ...attempt, offset, text, run_ms: runMs() })
    }
  }

  #flushLog(): void {
    const lines = this.#lines.splice(0)
    if (lines.length === 0 || this.#isClosed) return
    const { attempt, runMs } = this.#options
    this.#send({ type: 'attempt.log', ...attempt, offset: this.#lineCount - lines.length, lines, run_ms: runMs() })
  }

  #fits(bytes: number): boolean {
    if (this.#isClosed) return false
    this.#bytes += bytes
    if (this.#bytes <= this.#options.bytesMax) return true
    const message = `The output is larger than the ${this.#options.bytesMax} bytes that a task may have.`
    this.#fail(new AttemptError('output_too_large', message, 'renter'))
    return false
  }

  #send(message: ReliableMessage): void {
    if (this.#isClosed || this.#options.send(message)) return
    this.#fail(
      new AttemptError('agent_overloaded', 'The agent could not get its output to the market in time.', 'provider'),
    )
  }

  #fail(error: AttemptError): void {
    if (this.#isClosed) return
    if (error.code !== 'agent_overloaded') this.flush()
    this.close()
    this.#options.onFailure(error)
  }
}

/** Where to cut so that no surrogate pair falls apart. */
function wholeCharacters(text: string, charactersMax: number): number {
  const last = text.charCodeAt(charactersMax - 1)
  return last >= 0xd800 && last <= 0xdbff ? charactersMax - 1 : charactersMax
}
