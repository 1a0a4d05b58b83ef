import { type Context, isoFromMs } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { AttemptService } from '../tasks/attempt-service.ts'
import { type ActiveAttempt, gpuCountOf } from './attempt-book.ts'
import { createFairShare } from './fair-share.ts'
import { readWeights, writeWeight } from './market-store.ts'
import type { Standings, TaskQueue } from './task-queue.ts'

export type RenterShares = Awaited<ReturnType<typeof createRenterShares>>
type Waiting = Pick<TaskQueue, 'renters' | 'sizeOf'>

/** What is older has decayed to less than a thousandth. */
const rememberedHalfLives = 10

/** What renters hold and have had of the GPUs: fair-share.ts decides with it who goes first. Begins with what the database says. */
export async function createRenterShares(context: Context, attempts: AttemptService) {
  const { clock, database } = context
  const { fairShareHalfLifeMs: halfLifeMs, fairShareQuantumMs: quantumMs } = context.config.timing
  const share = createFairShare({ halfLifeMs, quantumMs })
  const since = isoFromMs(clock.now() - rememberedHalfLives * halfLifeMs)
  await database.read(async (reader) => {
    for (const { renterId, weight } of await readWeights(reader)) share.setWeight(renterId, weight)
    for (const { renterId, gpuMs, endedAt } of await attempts.usesSince(reader, since))
      share.remember(renterId, gpuMs, Date.parse(endedAt))
  })

  function viewOf(renterId: string, waiting: Waiting) {
    const { weight, gpuMs, held } = share.of(renterId, clock.now())
    const gpu_hours = Math.round(gpuMs / 3.6) / 1e6
    return { user_id: renterId, weight, gpu_hours, gpus: held, waiting: waiting.sizeOf(renterId) }
  }

  return {
    /** For the attempt book: from when its GPU is asked until the GPU is free. */
    hold: (active: ActiveAttempt) =>
      share.hold(active.task.renter_id, { gpus: gpuCountOf(active), sinceMs: active.askedAtMs }),
    /** What was never taken up has used nothing. */
    free(active: ActiveAttempt) {
      const { task, askedAtMs: sinceMs, status } = active
      const nowMs = status === 'offered' ? sinceMs : clock.now()
      share.free(task.renter_id, { gpus: gpuCountOf(active), sinceMs }, nowMs)
    },

    standings(): Standings {
      const nowMs = clock.now()
      return { standingOf: (renterId) => share.standingOf(renterId, nowMs), stepOf: share.stepOf }
    },

    viewOf,
    /** Whoever waits, has had GPUs lately or weighs other than 1: the most used first. */
    view(waiting: Waiting) {
      const renters = new Set([...share.renters(), ...waiting.renters()])
      const views = [...renters].map((renterId) => viewOf(renterId, waiting))
      return views.sort((a, b) => b.gpu_hours - a.gpu_hours || (a.user_id < b.user_id ? -1 : 1))
    },

    async setWeight(tx: Transaction, renterId: string, weight: number) {
      await writeWeight(tx, renterId, weight)
      tx.afterCommit(() => share.setWeight(renterId, weight))
    },

    /** From time to time, so that memory holds only who matters. */
    forgetOld: () => share.forget(clock.now()),
  }
}
