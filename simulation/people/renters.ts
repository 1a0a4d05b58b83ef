import { type Micros, micros, NewTask } from '@orbyte/protocol'
import type { Caller } from '@orbyte/server/http/route.ts'
import type { Market } from '@orbyte/server/market.ts'
import type { Promises } from '../promises/promises.ts'
import type { SeededRandom } from '../seeded-random.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import { busiestShare, shareAtHour } from './arrivals.ts'
import type { Asking } from './asking.ts'
import { newTask } from './new-task.ts'
import type { Watchers } from './watchers.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly asking: Asking
  readonly promises: Promises
  readonly watchers: Watchers
  readonly hourMs: number
  /** Of all renters together, on average of the day. */
  readonly tasksPerHour: number
  /** In how many tasks at once somebody's work may come. */
  readonly burstMax: number
  readonly longTasksShare: number
}
export type Renters = ReturnType<typeof createRenters>

const hoursBetweenBursts = 8

/** Those who have work: they submit it, one by one and in bursts, watch it, change their minds, and pay or dispute. */
export function createRenters(parts: Parts) {
  const { clock, random, asking, promises, watchers, hourMs } = parts
  const tasks: { id: string; who: string }[] = []
  const renters: string[] = []
  let titles = 0
  let isOver = false

  const newTitled = () => newTask(random, `task ${++titles}`, parts)

  function submitOne() {
    const task = newTitled()
    const who = random.pick(renters)!
    asking.ask({
      who,
      what: `${shortOf(who)} submits ${JSON.stringify(task.input_data)}`,
      work: ({ submissions }, caller) => submissions.create(caller, NewTask.parse(task)),
      answered: ({ id }) => submitted(who, id, task),
    })
  }

  function submitBurst() {
    const batch = Array.from({ length: random.integer(2, parts.burstMax) }, newTitled)
    const who = random.pick(renters)!
    asking.ask({
      who,
      what: `${shortOf(who)} submits ${batch.length} tasks at once`,
      work: ({ submissions }, caller) =>
        submissions.createBatch(
          caller,
          batch.map((task) => NewTask.parse(task)),
        ),
      answered: ({ items }) => items.forEach(({ id }, index) => submitted(who, id, batch[index]!)),
    })
  }

  function submitted(who: string, id: string, task: ReturnType<typeof newTask>) {
    promises.durability.submitted(id)
    tasks.push({ id, who })
    if (random.chance(0.15)) clock.after(random.waitMs(25_000), () => cancel(who, id))
    if (random.chance(0.2)) watchers.watch(who, id)
    if (task.auto_pay === false) clock.after(random.waitMs(100_000), () => review(who, id))
  }

  function cancel(who: string, taskId: string) {
    asking.ask({
      who,
      what: `${shortOf(who)} cancels ${shortOf(taskId)}`,
      work: (market, caller) => market.tasks.cancel(caller, taskId),
      answered: () => promises.durability.cancelled(taskId),
    })
  }

  /** Pays at once, or disputes; an administrator decides, or lets the time pass. */
  function review(who: string, taskId: string) {
    const what = shortOf(taskId)
    if (random.chance(0.5))
      return asking.ask({ who, what: `pays ${what}`, work: ({ payments }, caller) => payments.pay(caller, taskId) })
    const dispute = async (market: Market, caller: Caller) => {
      const { payment_id } = await market.tasks.get(caller, taskId)
      if (payment_id === null) return null
      return market.disputes.open(caller, { paymentId: payment_id, reason: 'It is not what I asked for.' })
    }
    asking.ask({
      who,
      what: `disputes ${what}`,
      work: dispute,
      answered: (opened) => opened && random.chance(0.7) && clock.after(random.waitMs(60_000), () => decide(opened.id)),
    })
  }

  function decide(disputeId: string) {
    const decision = random.pick(['release', 'refund', 'split'] as const)!
    const refundAmount = micros(random.integer(1, 50)) as Micros
    asking.ask({
      who: '',
      what: `an administrator decides ${decision} on ${shortOf(disputeId)}`,
      work: ({ admin }, caller) =>
        admin.decideDispute({ ...caller, role: 'admin' }, { disputeId, decision, refundAmount, note: 'Looked at.' }),
    })
  }

  /** What else renters do with what they have, be it theirs or not. */
  const deeds = {
    cancel: () => onTask(cancel),
    delete: () =>
      onTask((who, id) =>
        asking.ask({
          who,
          what: `deletes ${shortOf(id)}`,
          work: (market, caller) => market.tasks.deleteData(caller, id),
          answered: () => promises.durability.dataDeleted(id),
        }),
      ),
    watch: () => onTask(watchers.watch),
    withdraw: () => move(random.pick(renters)!, -random.integer(1, 2_000_000)),
    deposit: () => move(random.pick(renters)!, random.integer(1, 2_000_000)),
  }

  function onTask(work: (who: string, taskId: string) => void) {
    const task = random.pick(tasks)
    if (task) work(random.chance(0.9) ? task.who : random.pick(renters)!, task.id)
  }

  /** From the faucet, or below zero to nowhere. */
  function move(who: string, amount: number, then = () => {}) {
    const heard = promises.durability.moving(who, amount)
    asking.ask({
      who,
      what: `${shortOf(who)} ${amount > 0 ? 'deposits' : 'withdraws'} ${Math.abs(amount)}`,
      work: ({ wallet }, caller) =>
        amount > 0 ? wallet.deposit(caller, micros(amount)) : wallet.withdraw(caller, micros(-amount)),
      answered() {
        heard(true)
        then()
      },
      refused: () => heard(false),
    })
  }

  function again(meanMs: number, work: () => void) {
    clock.after(random.waitMs(meanMs), () => {
      if (isOver) return
      work()
      again(meanMs, work)
    })
  }

  return {
    cancel,
    count: () => tasks.length,

    /** Somebody new, with money. */
    arrive(userId: string, balance: number) {
      move(userId, balance, () => renters.push(userId))
    },

    begin() {
      const begunMs = clock.nowMs()
      again(hourMs / (parts.tasksPerHour * busiestShare), () => {
        const hour = (clock.nowMs() - begunMs) / hourMs
        if (renters.length > 0 && random.chance(shareAtHour(hour) / busiestShare)) submitOne()
      })
      again(hourMs * hoursBetweenBursts, () => renters.length > 0 && submitBurst())
      again(20_000, () => renters.length > 0 && deeds[random.pick(Object.keys(deeds) as (keyof typeof deeds)[])!]())
    },

    /** They ask for nothing new. */
    end: () => (isOver = true),
  }
}

const shortOf = (id: string) => id.slice(-6)
