import { type api, oneLine, type OutputOf, printable } from '@orbyte/protocol'
import { followTask, type TaskEvent } from '@orbyte/sdk'
import type { Cli } from './cli.ts'
import { createProgress, type Progress } from './terminal.ts'

export type Task = OutputOf<typeof api.tasks.get>
export type FollowOptions = {
  /** Whether the text that the task produces goes to standard output as it comes. */
  streamsText: boolean
  signal?: AbortSignal
}

const waitingLookMs = 3_000

export type Followed = { task: Task; wroteText: boolean }

/** Shows where a task is on standard error, and its text on standard output, until it has ended. */
export async function follow(cli: Cli, taskId: string, { streamsText, signal }: FollowOptions): Promise<Followed> {
  const line = createProgress(cli.terminal)
  const text = createTextStream(cli, line)
  const progress: Progress = {
    ...line,
    show(sentence) {
      if (line.isLive) text.breakLine()
      line.show(sentence)
    },
  }
  const waiting = explainWaiting(cli, taskId, progress)
  const places = tellPlaces(cli, progress)
  try {
    const task = await followTask(cli.client, taskId, {
      signal,
      onEvent(event) {
        const sentence = sentenceOf(event)
        if (sentence === null) return
        places.tell(event, sentence)
        waiting.set(event.type === 'task.queued' || event.type === 'task.requeued')
      },
      onOutput: (piece) => streamsText && text.write(piece),
      onReset: () => streamsText && text.reset(),
    })
    return { task, wroteText: text.hasWritten() }
  } finally {
    waiting.set(false)
    places.stop()
    progress.clear()
    text.end()
  }
}

const said = (value: unknown) => (typeof value === 'string' && value !== '' ? oneLine(value) : null)

/** What an event means for somebody who waits; null: nothing that is worth a line. */
function sentenceOf({ type, data }: TaskEvent): string | null {
  switch (type) {
    case 'task.queued':
      return 'waiting for a GPU'
    case 'task.requeued':
      return `starting again: ${said((data.end as { message?: unknown } | null)?.message) ?? 'the attempt ended'}`
    case 'attempt.accepted':
      return 'accepted'
    case 'attempt.preparing':
      return `preparing${said(data.progress) ? `: ${said(data.progress)}` : ''} (not charged)`
    case 'attempt.ready':
      return 'running'
    default:
      return null
  }
}

/** Shows each sentence, with the GPU that it is about: events name it by its id, people know it by its name. */
function tellPlaces(cli: Cli, progress: Progress) {
  const names = new Map<string, Promise<string>>()
  let latest: TaskEvent | null = null
  const nameOf = async (gpu_id: string) => {
    const gpu = await cli.client.gpus.get({ gpu_id })
    return oneLine(`${gpu.name} (${gpu.model})`)
  }
  return {
    tell(event: TaskEvent, sentence: string) {
      latest = event
      const id = event.type === 'attempt.accepted' ? said(event.data.gpu_id) : null
      // A line that is written over may be incomplete for a moment; one that stays is written when it is complete.
      if (id === null || progress.isLive) progress.show(sentence)
      if (id === null) return
      if (!names.has(id)) names.set(id, nameOf(id))
      const show = (name: string) => latest === event && progress.show(`${sentence} by ${name}`)
      // The name is a comfort: without it the sentence stands as it is.
      void names.get(id)!.then(show, () => latest === event && progress.show(sentence))
    },
    stop() {
      latest = null
    },
  }
}

/** "Why is it still waiting?": asks the market every few seconds while the task is queued. */
function explainWaiting(cli: Cli, taskId: string, progress: Progress) {
  let timer: ReturnType<typeof setInterval> | undefined
  const look = async () => {
    const { waiting } = await cli.client.tasks.get({ task_id: taskId })
    if (waiting && timer) progress.show(`waiting: ${oneLine(waiting.message)}`)
  }
  return {
    set(isWaiting: boolean) {
      clearInterval(timer)
      // An explanation that does not come is not worth ending for: the stream of events says so if the market is gone.
      timer = isWaiting ? setInterval(() => void look().catch(() => undefined), waitingLookMs) : undefined
    },
  }
}

/**
 * Text to standard output. When a task starts again, what was written cannot be taken back: as long as the new text repeats
 * the old one it is left out; where it differs it begins on a new line, and standard error says so.
 */
export function createTextStream(cli: Pick<Cli, 'terminal'>, progress: Pick<Progress, 'clear'>) {
  const { terminal } = cli
  let written = ''
  let isMidLine = false
  let repeated: string | null = null
  const put = (text: string) => {
    progress.clear()
    written += text
    isMidLine = !text.endsWith('\n')
    // A person's terminal obeys control characters; a file or a pipe gets exactly what the task wrote.
    terminal.stdout.write(terminal.isTty ? printable(text) : text)
  }
  const endLine = () => {
    if (isMidLine) terminal.stdout.write('\n')
    isMidLine = false
  }
  return {
    write(piece: string) {
      if (repeated === null) return put(piece)
      repeated += piece
      if (written.startsWith(repeated)) return
      const isContinuation = repeated.startsWith(written)
      const rest = isContinuation ? repeated.slice(written.length) : repeated
      if (!isContinuation) {
        endLine()
        terminal.say('The task started again on another GPU: the text above is void.')
        written = ''
      }
      repeated = null
      put(rest)
    },
    reset() {
      if (written !== '') repeated = ''
    },
    hasWritten: () => written !== '',
    /** On a person's terminal the line of progress must not share a line with the text: it is erased later. */
    breakLine: () => terminal.isTty && endLine(),
    end: endLine,
  }
}
