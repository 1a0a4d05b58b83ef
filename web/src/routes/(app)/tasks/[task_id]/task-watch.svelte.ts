import type { MarketEvent } from '@orbyte/protocol'
import { atMostEvery } from '$lib/at-most-every.ts'
import { client } from '$lib/client.ts'
import { listen } from '$lib/live.svelte.ts'
import { LiveText } from '$lib/live-text.svelte.ts'
import { Query } from '$lib/query.svelte.ts'
import type { Task } from '$lib/task-types.ts'

/** One task as it happens: its state as the market stores it, and what it produces as it comes. */
export class TaskWatch {
  readonly query: Query<Task>
  readonly output = new LiveText()
  readonly log = new LiveText()
  logLines = $state(0)
  readonly #taskId: string

  constructor(taskId: string) {
    this.#taskId = taskId
    this.query = new Query((signal) => client.tasks.get({ task_id: taskId }, { signal }))
  }

  /** For an `$effect`. */
  follow = (): (() => void) => {
    this.output.reset()
    this.log.reset()
    this.logLines = 0
    const stopQuery = this.query.follow()
    const state = atMostEvery(60, this.query.reload)
    const stopLive = listen({ name: 'task', task_id: this.#taskId }, (message) => {
      if (message.type === 'event' && !this.#produced(message.event)) state.ask()
    })
    return () => {
      state.stop()
      this.output.stop()
      this.log.stop()
      stopQuery()
      stopLive()
    }
  }

  /** False: it says something of the task's state. */
  #produced({ type, data }: Pick<MarketEvent, 'type' | 'data'>): boolean {
    if (type === 'output.reset') this.output.reset()
    else if (type === 'output.appended') this.output.append(String(data['text']))
    else if (type === 'log.appended') this.#addLines(data['lines'] as string[])
    else return false
    return true
  }

  #addLines(lines: string[]) {
    this.logLines += lines.length
    this.log.append(lines.map((line) => `${line}\n`).join(''))
  }
}
