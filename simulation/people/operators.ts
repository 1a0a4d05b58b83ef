import { micros } from '@orbyte/protocol'
import type { AdminService } from '@orbyte/server/admin/admin-service.ts'
import type { Caller } from '@orbyte/server/http/route.ts'
import type { Promises } from '../promises/promises.ts'
import type { SeededRandom } from '../seeded-random.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { SimulatedMachine } from '../simulated-machine.ts'
import type { SimulatedMarket } from '../simulated-market.ts'
import { type Asking, longestAskedMs } from './asking.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly asking: Asking
  readonly market: SimulatedMarket
  readonly promises: Promises
  readonly machines: readonly SimulatedMachine[]
  readonly hourMs: number
}

const hoursBetweenDeeds = 6
/** Until an operator takes back what they did. */
const sanctionMs = 20_000

/** What those who run the market decide: they pause it, shut out owners and agents for a while, and give money back. */
export function createOperators({ clock, random, asking, market, promises, machines, hourMs }: Parts) {
  let isOver = false
  /** What is still to be taken back. */
  const sanctions = new Set<() => void>()

  function ask(what: string, work: (admin: AdminService, caller: Caller) => Promise<unknown>, answered = () => {}) {
    asking.ask({
      who: '',
      what: `an operator ${what}`,
      work: ({ admin }, caller) => work(admin, { ...caller, role: 'admin' }),
      answered,
    })
  }

  /** Takes it back later, and by the end in any case. */
  function forAWhile(takeBack: () => void) {
    sanctions.add(takeBack)
    clock.after(random.waitMs(sanctionMs), takeBack)
    // Once more when nobody asks for it any more: it may have been done after it was taken back.
    clock.after(longestAskedMs, () => sanctions.delete(takeBack) && takeBack())
  }

  const deeds = {
    pause() {
      ask('pauses the market', (admin, caller) => admin.pauseMarket(caller, 'Something is looked at.'))
      forAWhile(() => ask('resumes the market', (admin, caller) => admin.resumeMarket(caller)))
    },
    suspendOwner() {
      const userId = random.pick(machines)!.ownerId
      const reason = 'Complaints are looked at.'
      ask('suspends an owner', (admin, caller) => admin.suspendUser(caller, { userId, reason }))
      forAWhile(() => ask('restores an owner', (admin, caller) => admin.restoreUser(caller, userId)))
    },
    suspendAgent() {
      const agentId = random.pick(market.current()?.market.gpus.registry.all() ?? [])?.agentId
      if (!agentId) return
      const reason = 'Its results are looked at.'
      ask('suspends an agent', (admin, caller) => admin.suspendAgent(caller, { agentId, reason }))
      forAWhile(() => ask('restores an agent', (admin, caller) => admin.restoreAgent(caller, agentId)))
    },
    refund() {
      const payment = random.pick(promises.store.newestPaid(20))
      if (!payment) return
      const amount = random.chance(0.5) ? undefined : micros(random.integer(1, 50))
      ask('gives money back', (admin, caller) =>
        admin.refund(caller, { paymentId: payment.id, amount, reason: 'It was not what was sold.' }),
      )
    },
  }

  function next() {
    clock.after(random.waitMs(hoursBetweenDeeds * hourMs), () => {
      if (isOver) return
      deeds[random.pick(Object.keys(deeds) as (keyof typeof deeds)[])!]()
      next()
    })
  }

  return {
    begin: next,
    end() {
      isOver = true
      for (const takeBack of sanctions) takeBack()
      sanctions.clear()
    },
  }
}
