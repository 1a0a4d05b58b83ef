import type { StoredEvent } from '@orbyte/server/event-store.ts'
import type { Market } from '@orbyte/server/market.ts'
import { createFaults } from './faults.ts'
import { createOwners } from './owners.ts'
import { createPeople } from './people.ts'
import { createPromises, type Violation } from './promises.ts'
import { seededRandom } from './seeded-random.ts'
import { simulatedClock } from './simulated-clock.ts'
import { createMarketDisk } from './simulated-disk.ts'
import { createTrueRuns } from './simulated-executor.ts'
import { createSimulatedMachine, type SimulatedMachine } from './simulated-machine.ts'
import { createSimulatedMarket, type SimulatedMarket } from './simulated-market.ts'
import { simulatedNetwork } from './simulated-network.ts'
import { createTrace } from './trace.ts'

/**
 * All constants of the product are stretched by this much: an hour of the simulation is half a minute of the market's own time,
 * so that an agent's heartbeat of 5 s comes every 10 minutes, and a seed of 24 hours takes about a second.
 */
export const stretch = 120
const hourMs = 3_600_000 / stretch

export type WorldOptions = { readonly seed: number; readonly hours: number; readonly isTraceKept?: boolean }
export type WorldReport = {
  readonly seed: number
  readonly steps: number
  readonly faults: ReadonlyMap<string, number>
  readonly violations: readonly Violation[]
  readonly machines: number
  readonly tasks: number
  readonly trace: readonly string[]
  readonly traceHash: string
}

/** After the last fault, time for everything to come to rest: longer than the longest wait, run, review and dispute together. */
const restHoursMax = 80
/** When people and machines have arrived. */
const settledMs = 20_000

/** Runs one world from its beginning to its rest, or to the first promise that is broken. */
export async function runWorld({ seed, hours, isTraceKept = false }: WorldOptions): Promise<WorldReport> {
  const world = createWorld(seed, isTraceKept)
  const { promises, trace, size } = world
  const escaped = (error: unknown) =>
    promises.broken(
      'nothing goes wrong by itself',
      error instanceof Error ? (error.stack ?? error.message) : String(error),
    )
  process.on('unhandledRejection', escaped)
  try {
    await world.settle()
    await world.live(Math.max(1, hours * size.hoursFactor))
    await world.comeToRest()
  } catch (error) {
    escaped(error)
  } finally {
    world.end()
    process.off('unhandledRejection', escaped)
  }
  for (const { promise, message } of promises.violations) trace(`BROKEN ${promise}: ${message}`)
  return {
    seed,
    steps: world.steps(),
    faults: world.faults.counts,
    violations: promises.violations,
    machines: size.machines,
    tasks: world.people.countTasks(),
    trace: trace.lines(),
    traceHash: trace.hash(),
  }
}

function createWorld(seed: number, isTraceKept: boolean) {
  const random = seededRandom(seed)
  const size = sizeOf(seed)
  const clock = simulatedClock()
  const trace = createTrace(clock, { isKept: isTraceKept })
  const network = simulatedNetwork(clock, random.fork('network'))
  const disk = createMarketDisk(random.fork('disk'))
  const runs = createTrueRuns(clock)
  const promises = createPromises({ clock, disk, runs, current: () => market.current() })
  runs.onBegin(promises.watchRun)
  const market: SimulatedMarket = createSimulatedMarket({
    ...{ clock, random: random.fork('market'), network, disk, trace },
    onStarted: promises.restarted,
    onEvent: hear,
    onTrouble: (message) => promises.broken('nothing goes wrong by itself', message),
  })
  const machines: SimulatedMachine[] = []
  const submitEveryMs = 80_000 / size.machines
  const people = createPeople({ clock, random: random.fork('people'), market, promises, trace, submitEveryMs })
  const owners = createOwners({ clock, random: random.fork('owners'), people, machines, trace })
  const faults = createFaults({ clock, random: random.fork('faults'), network, market, machines, trace })
  const temptation = random.fork('temptation')
  const temptedAt = temptation.pick([0, 0, 0.005, 0.02])!
  let steps = 0

  function hear(event: StoredEvent) {
    trace(`EVENT ${event.type} ${event.attempt_id ?? event.task_id ?? ''}`)
    promises.hear(event)
    if (temptation.chance(temptedAt)) faults.tempt(temptation.pick(machines))
    if (event.type === 'attempt.ready' && temptation.chance(temptedAt) && event.user_id !== null)
      clock.after(temptation.waitMs(100), () => people.cancel(event.user_id!, event.task_id!))
  }

  function addMachine(number: number, ownerId: string) {
    const work = ({ credentials }: Market) =>
      credentials.createAgentToken(people.callerOf(ownerId, null), { name: 'simulated' })
    people.ask({ who: ownerId, what: 'makes an agent token', work }, ({ token }) => {
      const name = `machine-${number}`
      const machine = createSimulatedMachine({
        ...{ clock, random: random.fork(name), network, trace, runs, name, ownerId, token },
        onResultAcknowledged: promises.resultAcknowledged,
        onResultForgotten: promises.resultForgotten,
      })
      machines.push(machine)
      clock.after(random.integer(0, 10_000), () => machine.start())
    })
  }

  /** Steps until a time, or until something is broken. */
  async function goOn(untilMs: number) {
    while (promises.violations.length === 0 && (await clock.step(untilMs))) {
      steps++
      promises.afterStep()
    }
  }

  function keepMachinesUp() {
    for (const machine of machines) if (!machine.isUp() && random.chance(0.2)) machine.start()
    clock.after(30_000, keepMachinesUp)
  }

  return {
    ...{ size, trace, promises, people, faults },
    steps: () => steps,

    /** The market opens, people and machines arrive. */
    async settle() {
      clock.after(0, market.start)
      await goOn(1_000)
      people.arrive({ renters: size.renters }, () => trace('everybody is here'))
      for (let owner = 1; owner <= size.owners; owner++)
        people.register(`owner-${owner}`, (id) => {
          for (let number = owner; number <= size.machines; number += size.owners) addMachine(number, id)
        })
      await goOn(settledMs)
      keepMachinesUp()
    },

    async live(hours: number) {
      people.begin()
      owners.begin(25_000)
      faults.begin()
      for (let hour = 1; hour <= hours && promises.violations.length === 0; hour++) {
        await goOn(settledMs + hour * hourMs)
        await promises.whole()
      }
    },

    /** Nobody wants anything new and nothing goes wrong any more: by and by everything ends. */
    async comeToRest() {
      trace('nothing goes wrong any more')
      people.end()
      faults.end()
      owners.end()
      for (let hour = 1; hour <= restHoursMax && promises.violations.length === 0; hour++) {
        await goOn(clock.nowMs() + hourMs)
        if (hour > 4 && promises.isAtRest()) break
      }
      if (promises.violations.length === 0) await promises.atTheEnd()
    },

    end() {
      market.kill('the world ends')
      for (const machine of machines) machine.kill('kill')
    },
  }
}

/** Mostly 5 to 30 machines with one to four GPUs each; hundreds in one seed of fifty, for a shorter time. */
function sizeOf(seed: number) {
  const random = seededRandom(seed, 'size')
  const isLarge = seed % 50 === 49
  return {
    machines: isLarge ? random.integer(100, 200) : random.integer(5, random.chance(0.25) ? 30 : 12),
    owners: isLarge ? 20 : random.integer(2, 5),
    renters: isLarge ? 20 : random.integer(2, 7),
    hoursFactor: isLarge ? 0.25 : 1,
  }
}
