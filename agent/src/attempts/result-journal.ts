import { AgentMessage } from '@orbyte/protocol'
import { z } from 'zod'
import type { ReliableMessage } from '../connection/wire-messages.ts'
import type { Log, Storage } from '../outside.ts'

const folder = 'results'

export type AttemptName = { readonly attempt_id: string; readonly fencing_token: string }

/** An attempt that ended, and what the server may not have heard of it: output, files, the result last. */
export type KeptAttempt = AttemptName & { readonly run_ms: number; readonly messages: readonly ReliableMessage[] }

const Entry = z.object({
  attempt_id: z.string(),
  fencing_token: z.string(),
  run_ms: z.int().nonnegative().nullable(),
  messages: z.array(z.record(z.string(), z.unknown())),
})

/**
 * One small file for each attempt that the server has not acknowledged, so that a restart of the agent loses no result and
 * forgets no attempt. Written whole, never appended to. When the disk fails the agent goes on: what is in memory is still sent.
 */
export class ResultJournal {
  readonly #storage: Storage
  readonly #log: Log
  /** The last operation on each attempt's file: the next one waits for it. */
  readonly #pending = new Map<string, Promise<void>>()

  constructor({ storage, log }: { storage: Storage; log: Log }) {
    this.#storage = storage
    this.#log = log
  }

  /** What the last agent process left. An attempt that it was running has ended with it: its engines are gone. */
  async load(): Promise<KeptAttempt[]> {
    const names = await this.#storage.list(folder)
    const cutOff = names.filter((name) => name.endsWith('.part'))
    await Promise.all(cutOff.map((name) => this.#storage.remove(`${folder}/${name}`)))
    const kept = await Promise.all(names.filter((name) => name.endsWith('.json')).map((name) => this.#read(name)))
    return kept.filter((attempt) => attempt !== null)
  }

  /** Not durable: an attempt that a power cut forgets is missing in the next hello, which says the same. */
  started({ attempt_id, fencing_token }: AttemptName): void {
    const entry = JSON.stringify({ attempt_id, fencing_token, run_ms: null, messages: [] })
    this.#then(attempt_id, () => this.#storage.write(fileOf(attempt_id), entry))
  }

  /** `messages`: JSON texts. */
  ended(attempt: AttemptName & { run_ms: number }, messages: readonly string[]): void {
    const { attempt_id, fencing_token, run_ms } = attempt
    const head = JSON.stringify({ attempt_id, fencing_token, run_ms })
    const entry = `${head.slice(0, -1)},"messages":[${messages.join(',')}]}`
    this.#then(attempt_id, () => this.#storage.write(fileOf(attempt_id), entry, { durable: true }))
  }

  forget(attemptId: string): void {
    this.#then(attemptId, () => this.#storage.remove(fileOf(attemptId)))
  }

  /** Resolves when everything is written that was asked for so far. */
  async written(): Promise<void> {
    await Promise.all(this.#pending.values())
  }

  #then(attemptId: string, operation: () => Promise<void>): void {
    const before = this.#pending.get(attemptId) ?? Promise.resolve()
    const now = before.then(operation).catch((error: unknown) => {
      this.#log.error(`The result of ${attemptId} cannot be kept on disk: ${String(error)}`)
    })
    this.#pending.set(attemptId, now)
    void now.then(() => {
      if (this.#pending.get(attemptId) === now) this.#pending.delete(attemptId)
    })
  }

  async #read(name: string): Promise<KeptAttempt | null> {
    const text = await this.#storage.read(`${folder}/${name}`)
    const entry = text === null ? null : parseEntry(text)
    if (entry === null || fileOf(entry.attempt_id) !== `${folder}/${name}`) {
      this.#log.warn(`${folder}/${name} cannot be read and is left out.`)
      return null
    }
    const { attempt_id, fencing_token, run_ms } = entry
    const messages = entry.messages.flatMap((message) => asMessage(message, entry))
    if (run_ms !== null && messages.at(-1)?.type === 'attempt.result') {
      return { attempt_id, fencing_token, run_ms, messages }
    }
    return { attempt_id, fencing_token, run_ms: 0, messages: [restarted({ attempt_id, fencing_token })] }
  }
}

function restarted(attempt: AttemptName): ReliableMessage {
  return {
    type: 'attempt.result',
    ...attempt,
    outcome: 'failed',
    run_ms: 0,
    output_data: null,
    code: 'agent_restarted',
    message: 'The agent was restarted while it ran.',
    fault: 'provider',
  }
}

function parseEntry(text: string): z.output<typeof Entry> | null {
  try {
    return Entry.parse(JSON.parse(text))
  } catch {
    return null
  }
}

/** A message as it was kept, if it is one and is about this attempt. */
function asMessage(value: Record<string, unknown>, { attempt_id, fencing_token }: AttemptName): ReliableMessage[] {
  const parsed = AgentMessage.safeParse({ ...value, attempt_id, fencing_token, seq: 1 })
  return parsed.success ? [{ ...value, attempt_id, fencing_token } as ReliableMessage] : []
}

function fileOf(attemptId: string): string {
  return `${folder}/${attemptId}.json`
}
