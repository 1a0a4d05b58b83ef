import { ProblemError } from '@orbyte/protocol'
import type { Caller } from '@orbyte/server/http/route.ts'
import type { Market } from '@orbyte/server/market.ts'
import { isDiskError } from '../market-disk.ts'
import type { Promises } from '../promises/promises.ts'
import type { SeededRandom } from '../seeded-random.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { SimulatedMarket } from '../simulated-market.ts'
import type { Outcome } from '../simulated-process.ts'
import type { Trace } from '../trace.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly market: SimulatedMarket
  readonly promises: Promises
  readonly trace: Trace
}
export type Question<T> = {
  /** Who asks: a user's id. */
  readonly who: string
  readonly what: string
  work(market: Market, caller: Caller): Promise<T>
  /** Called once there is an answer, if there ever is one. */
  answered?(value: T): void
  /** The market has said no. */
  refused?(): void
}
export type Asking = ReturnType<typeof createAsking>

/** How long somebody waits for an answer before they ask again, and how often they do. */
const patienceMs = 15_000
const triesMax = 12
/** After so long nobody asks any more. */
export const longestAskedMs = triesMax * patienceMs

/** A request or its answer takes up to this long to get there. */
const wayMsMax = 40

export function callerOf(userId: string, key: string | null = null): Caller {
  const idempotency = key === null ? null : { key, endpoint: 'simulated', bodyHash: key }
  return { userId, role: 'user', sessionId: null, userAgent: null, idempotency }
}

/**
 * How people ask: they see the market through its services, as through the API. An answer that never comes, or says that the
 * disk could not do it, is asked for again with the same idempotency key.
 */
export function createAsking({ clock, random, market, promises, trace }: Parts) {
  let questions = 0

  function ask<T>({ who, what, work, answered = () => {}, refused = () => {} }: Question<T>) {
    const key = `key-${++questions}`

    function attempt(tries: number) {
      const generation = market.current()
      if (tries > triesMax) return trace(`${what}: nobody ever answered`)
      if (!generation) return void clock.after(patienceMs / 3, () => attempt(tries + 1))
      const { process } = generation
      let isOver = false
      const over = () => {
        if (isOver) return false
        return (isOver = true)
      }
      const again = () => over() && attempt(tries + 1)
      process.after(random.integer(0, wayMsMax), () => {
        trace(`${what} (${key}${tries > 1 ? `, try ${tries}` : ''})`)
        process.answer(work(generation.market, callerOf(who, key)), hear, random.integer(0, wayMsMax))
      })
      clock.after(patienceMs, again)

      function hear(outcome: Outcome<T>) {
        if ('value' in outcome) return over() && say('done', () => answered(outcome.value))
        const { error } = outcome
        if (isDiskError(error)) return trace(`${what}: the disk could not do it`)
        if (error instanceof ProblemError) return over() && say(error.code, refused)
        promises.broken('an error has a name', `${what}: ${String(error)}`)
      }
    }

    function say(outcome: string, then: () => void) {
      trace(`${what}: ${outcome}`)
      then()
    }
    attempt(1)
  }

  /** Somebody signs up. */
  function register(name: string, then: (userId: string) => void) {
    const account = { email: `${name}@example.org`, name, role: 'user' as const, passwordHash: 'none' }
    ask({
      who: '',
      what: `${name} signs up`,
      work: ({ users }) => market.current()!.context.database.transaction((tx) => users.create(tx, account)),
      answered: ({ id }) => then(id),
    })
  }

  return { ask, register }
}
