import { type Micros, micros, NewTask, ProblemError } from '@orbyte/protocol'
import { DatabaseFullError } from '@orbyte/server/db/database.ts'
import type { Caller } from '@orbyte/server/http/route.ts'
import type { Market } from '@orbyte/server/market.ts'
import type { Promises } from './promises.ts'
import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import type { SimulatedMarket } from './simulated-market.ts'
import type { Outcome } from './simulated-process.ts'
import type { Trace } from './trace.ts'

export type PeopleParts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly market: SimulatedMarket
  readonly promises: Promises
  readonly trace: Trace
  /** How long between two tasks of all renters together. */
  readonly submitEveryMs: number
}
export type Call<T> = { who: string; what: string; work: (market: Market, caller: Caller) => Promise<T> }
export type People = ReturnType<typeof createPeople>

/** How long somebody waits for an answer before they ask again, and how often they do. */
const patienceMs = 15_000
const triesMax = 12

/**
 * Those who use the market. They see it through the services, as through the API: an answer that never comes is asked for again
 * with the same idempotency key.
 */
export function createPeople(parts: PeopleParts) {
  const { clock, random, market, promises, trace } = parts
  const tasks: string[] = []
  const renters: string[] = []
  let keys = 0
  let isOver = false

  function callerOf(userId: string, key: string | null): Caller {
    const idempotency = key === null ? null : { key, endpoint: 'simulated', bodyHash: key }
    return { userId, role: 'user', sessionId: null, address: 'simulated', userAgent: null, idempotency }
  }

  /** Asks until there is an answer. `then` hears what it was, if there ever was one. */
  function ask<T>({ who, what, work }: Call<T>, then: (value: T) => void = () => {}) {
    const key = `key-${++keys}`
    const attempt = (tries: number) => {
      const generation = market.current()
      if (tries > triesMax) return trace(`${what}: nobody ever answered`)
      if (!generation) return void clock.after(patienceMs / 3, () => attempt(tries + 1))
      let answered = false
      const hear = (outcome: Outcome<T>) => {
        if (answered) return
        answered = true
        if ('value' in outcome) {
          trace(`${what}: done`)
          return then(outcome.value)
        }
        trace(`${what}: ${nameOf(outcome.error)}`)
        if (outcome.error instanceof DatabaseFullError) return void clock.after(patienceMs, () => attempt(tries + 1))
        if (!(outcome.error instanceof ProblemError))
          promises.broken('an error has a name', `${what}: ${nameOf(outcome.error)}`)
      }
      const { process } = generation
      // A request takes its time to get there.
      process.after(random.integer(0, 40), () => {
        trace(`${what} (${key}${tries > 1 ? `, try ${tries}` : ''})`)
        process.answer(work(generation.market, callerOf(who, key)), hear, random.integer(0, 40))
      })
      clock.after(patienceMs, () => {
        if (answered) return
        answered = true
        attempt(tries + 1)
      })
    }
    attempt(1)
  }

  function submit() {
    const who = random.pick(renters)!
    const title = `task of key ${keys + 1}`
    const task = newTask(random, title)
    const work = (all: Market, caller: Caller) => all.submissions.create(caller, NewTask.parse(task))
    ask({ who, what: `${who.slice(-4)} submits ${JSON.stringify(task.input_data)}`, work }, ({ id }) => {
      promises.submitted(id)
      tasks.push(id)
      if (promises.countTasksTitled(title) !== 1)
        promises.broken(
          'an idempotency key makes one task',
          `there are ${promises.countTasksTitled(title)} of "${title}"`,
        )
      if (random.chance(0.15)) clock.after(random.waitMs(25_000), () => cancel(who, id))
      if (task.auto_pay === false) clock.after(random.waitMs(100_000), () => review(who, id))
    })
  }

  const cancel = (who: string, taskId: string) =>
    ask({
      who,
      what: `${who.slice(-4)} cancels ${taskId.slice(-6)}`,
      work: ({ tasks: all }, caller) => all.cancel(caller, taskId),
    })

  /** Pays at once, or disputes; an administrator decides, or lets the time pass. */
  function review(who: string, taskId: string) {
    if (random.chance(0.5))
      return ask({
        who,
        what: `pays ${taskId.slice(-6)}`,
        work: ({ payments }, caller) => payments.pay(caller, taskId),
      })
    const dispute = async ({ disputes, tasks: all }: Market, caller: Caller) => {
      const { payment_id } = await all.get(caller, taskId)
      return payment_id === null
        ? null
        : disputes.open(caller, { paymentId: payment_id, reason: 'It is not what I asked for.' })
    }
    ask({ who, what: `disputes ${taskId.slice(-6)}`, work: dispute }, (opened) => {
      if (opened && random.chance(0.7)) clock.after(random.waitMs(60_000), () => decide(opened.id))
    })
  }

  function decide(disputeId: string) {
    const decision = random.pick(['release', 'refund', 'split'] as const)!
    const refundAmount = micros(random.integer(1, 50)) as Micros
    const work = ({ admin }: Market, caller: Caller) =>
      admin.decideDispute({ ...caller, role: 'admin' }, { disputeId, decision, refundAmount, note: 'Looked at.' })
    ask({ who: '', what: `decides ${decision} on ${disputeId.slice(-6)}`, work })
  }

  /** What else renters do with what they have. */
  function wander() {
    const id = random.pick(tasks)
    const who = random.pick(renters)!
    const does = random.pick(['cancel', 'delete', 'look', 'withdraw'])
    if (does === 'withdraw')
      ask({
        who,
        what: 'withdraws',
        work: ({ wallet }, caller) => wallet.withdraw(caller, micros(random.integer(1, 2_000_000))),
      })
    if (id === undefined) return
    if (does === 'cancel') cancel(who, id)
    if (does === 'delete')
      ask({ who, what: `deletes ${id.slice(-6)}`, work: ({ tasks: all }, caller) => all.deleteData(caller, id) })
    if (does === 'look')
      ask({
        who,
        what: `looks at ${id.slice(-6)}`,
        work: async ({ tasks: all, explanations }, caller) => {
          const { stored } = await all.get(caller, id)
          if (stored.status === 'pending' && !explanations.waiting(stored))
            promises.broken('what waits can say why', `${id} waits, and nothing says why`)
        },
      })
  }

  const again = (meanMs: number, work: () => void) => {
    const next = () =>
      void clock.after(random.waitMs(meanMs), () => {
        if (isOver) return
        work()
        next()
      })
    next()
  }

  return {
    ask,
    callerOf,
    cancel,
    /** Makes the accounts. A third of the renters has little money. */
    arrive(count: { renters: number }, then: () => void) {
      let expected = count.renters
      for (let number = 1; number <= count.renters; number++)
        register(`renter-${number}`, (id) => {
          renters.push(id)
          const amount = micros(number % 3 === 0 ? 400_000 : 500_000_000)
          ask({ who: id, what: 'deposits', work: ({ wallet }, caller) => wallet.deposit(caller, amount) }, () => {
            if (--expected === 0) then()
          })
        })
    },
    register,
    begin() {
      again(parts.submitEveryMs, submit)
      again(20_000, wander)
    },
    /** They ask for nothing new. */
    end: () => (isOver = true),
    countTasks: () => tasks.length,
  }

  function register(name: string, then: (userId: string) => void) {
    const account = { email: `${name}@example.org`, name, role: 'user' as const, passwordHash: 'none' }
    const { context, market: services } = market.current()!
    void context.database.transaction((tx) => services.users.create(tx, account)).then(({ id }) => then(id))
  }
}

function nameOf(error: unknown): string {
  if (error instanceof ProblemError) return error.code
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error)
}

/** Some is over at once; some takes longer than an agent may be silent. */
function runMs(random: SeededRandom): number {
  const kind = random.unit()
  if (kind < 0.1) return random.integer(0, 20)
  return kind < 0.3 ? random.integer(85_000, 108_000) : random.waitMs(30_000)
}

/** Work as it comes: most of it goes well, some fails in each of the ways that work can. */
function newTask(random: SeededRandom, title: string) {
  const fate = random.unit()
  const fails = fate < 0.05 ? 'crash' : fate < 0.08 ? 'out_of_memory' : fate < 0.12 ? 'renter_error' : undefined
  const output = random.chance(0.6) ? title.repeat(random.integer(1, 6)) : ''
  const input_data = {
    prepare_ms: random.chance(0.6) ? random.integer(0, 25_000) : 0,
    sleep_ms: runMs(random),
    ...(output !== '' && { output, chunks: random.integer(1, 8) }),
    ...(fails && { fail: fails }),
    ...(random.chance(0.03) && { exit_code: 3 }),
    ...(random.chance(0.2) && { log: ['a line', 'another'] }),
    ...(random.chance(0.1) && { files: [{ name: 'result.txt', text: title.repeat(random.integer(1, 4)) }] }),
    ...(random.chance(0.05) && { ignore_cancel: true }),
  }
  return {
    task_type: 'other' as const,
    title,
    input_data,
    max_price_per_hour: random.chance(0.8) ? '4' : '1.000001',
    max_duration_ms: random.chance(0.8) ? 110_000 : random.integer(1_000, 50_000),
    ...(random.chance(0.1) && { max_cost: '0.012345' }),
    max_wait_ms: random.integer(20_000, 120_000),
    wait: random.chance(0.9),
    auto_pay: random.chance(0.7),
    priority: random.integer(0, 9),
  }
}
