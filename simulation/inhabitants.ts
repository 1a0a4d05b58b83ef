import { micros, NewTask } from '@orbyte/protocol'
import type { Faults, LongCuts } from './faults/faults.ts'
import { forging } from './forger.ts'
import { type Asking, callerOf } from './people/asking.ts'
import type { Renters } from './people/renters.ts'
import type { Promises } from './promises/promises.ts'
import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import type { TrueRuns } from './simulated-executor.ts'
import { createSimulatedMachine, type SimulatedMachine } from './simulated-machine.ts'
import type { SimulatedNetwork } from './simulated-network.ts'
import type { Trace } from './trace.ts'

export type Size = {
  readonly machines: number
  readonly owners: number
  readonly renters: number
  /** Whether an agent was tampered with. */
  readonly hasForger: boolean
  /** How much of the hours it lives. */
  readonly hoursFactor: number
  /** By how much more often machines go away than they do in the world. */
  readonly speedUp: number
  readonly tasksPerHour: number
  readonly burstMax: number
  /** How many of the tasks take longer than an agent lives unheard. */
  readonly longTasksShare: number
  /** How many cuts of the network are none of the short ones, and how long these are on average. */
  readonly longCuts: LongCuts
  /** How many agents are cut off just when a task has begun. */
  readonly cutOffShare: number
}

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly size: Size
  readonly asking: Asking
  readonly promises: Promises
  readonly network: SimulatedNetwork
  readonly runs: TrueRuns
  readonly machines: SimulatedMachine[]
  readonly faults: Faults
  readonly renters: Renters
  readonly trace: Trace
}

const richMicros = 500_000_000
/** For a few tasks only. */
const poorMicros = 400_000
/** The owner of a machine whose agent has ended looks after it so often. */
const lookAfterMs = 30_000

/** Who and what lives in a world. */
export function createInhabitants(parts: Parts) {
  const { clock, random, size, asking, promises, machines, renters, trace } = parts

  function addMachine(number: number, ownerId: string) {
    asking.ask({
      who: ownerId,
      what: 'makes an agent token',
      work: ({ credentials }) => credentials.createAgentToken(callerOf(ownerId), { name: 'simulated' }),
      answered({ token }) {
        const name = `machine-${number}`
        const { network, runs } = parts
        const isForger = size.hasForger && number === 1
        const machine = createSimulatedMachine({
          ...{ clock, random: random.fork(name), network, trace, runs, name, ownerId, token },
          isCheap: isForger,
          tamper: (honest) => (isForger ? tampered(name, honest) : honest),
          onAcknowledged: promises.durability.acknowledged,
          onResultForgotten: promises.durability.resultForgotten,
        })
        machines.push(machine)
        clock.after(random.integer(0, 10_000), machine.start)
      },
    })
  }

  function tampered(machine: string, honest: Parameters<typeof forging>[0]) {
    const victims = () =>
      promises.store
        .openAttemptsByMachine()
        .map(({ id, fencing_token, hostname }) => ({ attemptId: id, fencingToken: fencing_token, machine: hostname }))
    return forging(honest, { random: random.fork('forger'), machine, victims, onForged: parts.faults.forged })
  }

  return {
    /** A third of the renters has little money. */
    arrive() {
      clock.after(1_000, () => {
        for (let renter = 1; renter <= size.renters; renter++)
          asking.register(`renter-${renter}`, (id) => renters.arrive(id, renter % 3 === 0 ? poorMicros : richMicros))
        for (let owner = 1; owner <= size.owners; owner++)
          asking.register(`owner-${owner}`, (id) => {
            for (let number = owner; number <= size.machines; number += size.owners) addMachine(number, id)
          })
      })
    },

    lookAfterMachines: function lookAfter() {
      for (const machine of machines) if (!machine.isUp() && random.chance(0.2)) machine.start()
      clock.after(lookAfterMs, lookAfter)
    },

    /** A market that does nothing breaks few promises. Once all is well again, work gets done. */
    askForOneMore() {
      asking.register('renter-at-the-end', (who) =>
        asking.ask({
          who,
          what: 'the last renter has one more task',
          work: async ({ wallet, submissions }, caller) => {
            await wallet.deposit({ ...caller, idempotency: null }, micros(10_000_000))
            return submissions.create(caller, NewTask.parse(oneMore))
          },
          answered: ({ id }) => promises.durability.mustComplete(id),
        }),
      )
    },
  }
}

const oneMore = {
  task_type: 'other',
  title: 'one more',
  input_data: { sleep_ms: 1_000, output: 'done' },
  max_price_per_hour: '4',
  max_wait_ms: 3_600_000,
  wait: true,
}
