import type { MarketEvent } from '@orbyte/protocol'
import { client } from '$lib/client.ts'
import { listen } from '$lib/live.svelte.ts'
import { Query } from '$lib/query.svelte.ts'
import type { Task } from '$lib/task-types.ts'

/** Text is kept in pieces, so that a new one does not draw all of them again. */
const pieceLength = 4_000
/** Older lines are in the stored log, which can be downloaded. */
const logLinesMax = 2_000

/** One task as it happens: its state as the market stores it, and what it produces as it comes. */
export class TaskWatch {
  readonly query: Query<Task>
  pieces = $state<string[]>([])
  length = $state(0)
  lines = $state.raw<string[]>([])
  readonly #taskId: string
  #reload: ReturnType<typeof setTimeout> | undefined
  #arrived = ''
  #frame = 0

  constructor(taskId: string) {
    this.#taskId = taskId
    this.query = new Query((signal) => client.tasks.get({ task_id: taskId }, { signal }))
  }

  /** For an `$effect`. */
  follow = (): (() => void) => {
    this.#reset()
    this.lines = []
    const stopQuery = this.query.follow()
    const stopLive = listen({ name: 'task', task_id: this.#taskId }, (message) => {
      if (message.type === 'event') this.#hear(message.event)
    })
    return () => {
      clearTimeout(this.#reload)
      cancelAnimationFrame(this.#frame)
      stopQuery()
      stopLive()
    }
  }

  #hear({ type, data }: Pick<MarketEvent, 'type' | 'data'>) {
    switch (type) {
      case 'output.reset':
        return this.#reset()
      case 'output.appended':
        this.#arrived += String(data['text'])
        this.#frame ||= requestAnimationFrame(() => this.#show())
        return
      case 'log.appended':
        this.lines = [...this.lines, ...(data['lines'] as string[])].slice(-logLinesMax)
        return
      default:
        clearTimeout(this.#reload)
        this.#reload = setTimeout(() => void this.query.reload(), 60)
    }
  }

  /** At most once a frame, however fast it comes. */
  #show() {
    this.#frame = 0
    this.length += this.#arrived.length
    const last = this.pieces.at(-1) ?? ''
    if (last.length > 0 && last.length < pieceLength) this.pieces[this.pieces.length - 1] = last + this.#arrived
    else this.pieces.push(this.#arrived)
    this.#arrived = ''
  }

  #reset() {
    this.pieces = []
    this.length = 0
    this.#arrived = ''
  }
}
