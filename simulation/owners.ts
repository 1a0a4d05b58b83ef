import type { Caller } from '@orbyte/server/http/route.ts'
import { micros } from '@orbyte/protocol'
import type { Market } from '@orbyte/server/market.ts'
import type { People } from './people.ts'
import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import type { SimulatedMachine } from './simulated-machine.ts'
import type { Trace } from './trace.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly people: People
  readonly machines: readonly SimulatedMachine[]
  readonly trace: Trace
}

/** What providers do with their GPUs, at the market and on the machine itself. */
export function createOwners({ clock, random, people, machines, trace }: Parts) {
  let isOver = false

  /** Asks something about one of the owner's GPUs. */
  function onGpu(
    machine: SimulatedMachine,
    what: string,
    work: (market: Market, gpuId: string, caller: Caller) => Promise<unknown>,
  ) {
    people.ask({
      who: machine.ownerId,
      what: `the owner of ${machine.name} ${what}`,
      work: async (market, caller) => {
        const gpu = random.pick(market.gpus.registry.ofOwner(machine.ownerId))
        if (gpu) await work(market, gpu.id, { ...caller, idempotency: null })
      },
    })
  }

  const deeds: Record<string, (machine: SimulatedMachine) => void> = {
    price: (machine) =>
      onGpu(machine, 'changes a price', ({ gpus }, gpu_id, caller) =>
        gpus.update(caller, { gpu_id, price_per_hour: micros(random.integer(300_000, 4_000_000)) }),
      ),
    maintenance: (machine) =>
      onGpu(machine, 'sets maintenance', ({ gpus }, gpu_id, caller) =>
        gpus.update(caller, { gpu_id, maintenance: random.chance(0.3) }),
      ),
    reclaim: (machine) =>
      onGpu(machine, 'reclaims', async ({ gpus }, gpu_id, caller) => {
        await gpus.reclaim(caller, gpu_id)
        clock.after(random.waitMs(40_000), () => unmaintain(machine))
      }),
    delete: (machine) => onGpu(machine, 'deletes a GPU', ({ gpus }, gpuId, caller) => gpus.remove(caller, gpuId)),
    drainHere: (machine) => atTheMachine(machine, 'drain'),
    reclaimHere: (machine) => atTheMachine(machine, 'reclaim'),
    stopAgent(machine) {
      const mode = random.pick(['drain', 'now'] as const)!
      if (!machine.agent()) return
      trace(`the owner stops ${machine.name}: ${mode}`)
      machine.agent()!.stop(mode)
    },
  }

  function unmaintain(machine: SimulatedMachine) {
    onGpu(machine, 'ends maintenance', async ({ gpus }, _one, caller) => {
      for (const { id } of gpus.registry.ofOwner(machine.ownerId))
        await gpus.update(caller, { gpu_id: id, maintenance: false })
    })
  }

  function atTheMachine(machine: SimulatedMachine, what: 'drain' | 'reclaim') {
    const agent = machine.agent()
    if (!agent) return
    trace(`at ${machine.name}: ${what}`)
    void agent[what](null).catch(() => {})
    clock.after(random.waitMs(40_000), () => {
      trace(`at ${machine.name}: resume`)
      void machine.agent()?.resume(null)
    })
  }

  function next(everyMs: number) {
    clock.after(random.waitMs(everyMs), () => {
      if (isOver) return
      const machine = random.pick(machines)
      const deed = deeds[random.pick(Object.keys(deeds))!]
      if (machine && deed) deed(machine)
      next(everyMs)
    })
  }

  return {
    begin: (everyMs: number) => next(everyMs),
    end() {
      isOver = true
      for (const machine of machines) {
        unmaintain(machine)
        void machine.agent()?.resume(null)
      }
    },
  }
}
