import { micros } from '@orbyte/protocol'
import type { Caller } from '@orbyte/server/http/route.ts'
import type { Market } from '@orbyte/server/market.ts'
import { reallocationsPerMachineHour } from '../faults/rates.ts'
import type { Promises } from '../promises/promises.ts'
import type { SeededRandom } from '../seeded-random.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { SimulatedMachine } from '../simulated-machine.ts'
import type { Trace } from '../trace.ts'
import type { Asking } from './asking.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly asking: Asking
  readonly promises: Promises
  readonly machines: readonly SimulatedMachine[]
  readonly trace: Trace
  readonly hourMs: number
  readonly speedUp: number
}

/** Until an owner gives back what they took. */
const pauseMs = 40_000

/** What providers do with their GPUs, at the market and on the machine itself: most of it moves work elsewhere. */
export function createOwners({ clock, random, asking, promises, machines, trace, hourMs, speedUp }: Parts) {
  let isOver = false

  /** Asks something about one of the owner's GPUs. */
  function onGpu(
    { name, ownerId }: SimulatedMachine,
    what: string,
    work: (market: Market, gpuId: string, caller: Caller) => Promise<() => void>,
  ) {
    asking.ask({
      who: ownerId,
      what: `the owner of ${name} ${what}`,
      work: async (market, caller) => {
        const gpu = random.pick(market.gpus.registry.ofOwner(ownerId))
        return gpu ? work(market, gpu.id, { ...caller, idempotency: null }) : () => {}
      },
      answered: (then) => then(),
    })
  }

  const deeds: Record<string, (machine: SimulatedMachine) => void> = {
    price: (machine) =>
      onGpu(machine, 'changes a price', async ({ gpus }, gpu_id, caller) => {
        await gpus.update(caller, { gpu_id, price_per_hour: micros(random.integer(300_000, 4_000_000)) })
        return () => {}
      }),
    share: (machine) =>
      onGpu(machine, 'says whether it is shared', async ({ gpus }, gpu_id, caller) => {
        await gpus.update(caller, { gpu_id, sharing: random.chance(0.5) })
        return () => {}
      }),
    maintain: (machine) =>
      onGpu(machine, 'sets maintenance', async ({ gpus }, gpu_id, caller) => {
        const maintained = setsMaintenance(machine, gpu_id)
        await gpus.update(caller, { gpu_id, maintenance: true })
        return () => void maintained()
      }),
    reclaim: (machine) =>
      onGpu(machine, 'reclaims', async ({ gpus }, gpu_id, caller) => {
        const maintained = setsMaintenance(machine, gpu_id)
        const reclaimed = promises.owners.reclaims(gpu_id)
        await gpus.reclaim(caller, gpu_id)
        return () => reclaimed(maintained())
      }),
    delete: (machine) =>
      onGpu(machine, 'deletes a GPU', async ({ gpus }, gpuId, caller) => {
        await gpus.remove(caller, gpuId)
        return () => {}
      }),
    drainHere: (machine) => atTheMachine(machine, 'drain'),
    reclaimHere: (machine) => atTheMachine(machine, 'reclaim'),
    stopAgent(machine) {
      const mode = random.pick(['drain', 'now'] as const)!
      if (!machine.agent()) return
      trace(`the owner stops ${machine.name}: ${mode}`)
      machine.agent()!.stop(mode)
    },
  }

  function setsMaintenance(machine: SimulatedMachine, gpuId: string): () => boolean {
    const told = promises.owners.setsMaintenance(gpuId, machine.ownerId)
    return () => {
      clock.after(random.waitMs(pauseMs), () => endMaintenance(machine))
      return told()
    }
  }

  /** Of all GPUs of the machine's owner. */
  function endMaintenance({ name, ownerId }: SimulatedMachine) {
    const heard = promises.owners.endsMaintenance(ownerId)
    asking.ask({
      who: ownerId,
      what: `the owner of ${name} ends maintenance`,
      work: async ({ gpus }, caller) => {
        for (const { id } of gpus.registry.ofOwner(ownerId))
          await gpus.update(caller, { gpu_id: id, maintenance: false })
      },
      answered: heard,
      refused: heard,
    })
  }

  function atTheMachine(machine: SimulatedMachine, what: 'drain' | 'reclaim') {
    const agent = machine.agent()
    if (!agent) return
    trace(`at ${machine.name}: ${what}`)
    agent[what](null).then(promises.owners.pausesHere(machine.name), () => {})
    clock.after(random.waitMs(pauseMs), () => resumeHere(machine))
  }

  function resumeHere(machine: SimulatedMachine) {
    trace(`at ${machine.name}: resume`)
    promises.owners.resumesHere(machine.name)
    machine
      .agent()
      ?.resume(null)
      .catch(() => {})
  }

  function next(meanMs: number) {
    clock.after(random.waitMs(meanMs), () => {
      if (isOver) return
      const machine = random.pick(machines)
      if (machine) deeds[random.pick(Object.keys(deeds))!]!(machine)
      next(meanMs)
    })
  }

  return {
    begin: () => next(hourMs / (reallocationsPerMachineHour * speedUp * machines.length)),
    end() {
      isOver = true
      for (const machine of machines) {
        endMaintenance(machine)
        resumeHere(machine)
      }
    },
  }
}
