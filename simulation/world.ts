import type { StoredEvent } from '@orbyte/server/event-store.ts'
import { createFaults, type Faults } from './faults/faults.ts'
import { speedUps } from './faults/rates.ts'
import { createInhabitants, type Size } from './inhabitants.ts'
import { createMarketDisk } from './market-disk.ts'
import { callerOf, createAsking } from './people/asking.ts'
import { createOperators } from './people/operators.ts'
import { createOwners } from './people/owners.ts'
import { createRenters, type Renters } from './people/renters.ts'
import { createWatchers } from './people/watchers.ts'
import type { Violation } from './promises/evidence.ts'
import { createPromises, type Promises } from './promises/promises.ts'
import { type SeededRandom, seededRandom } from './seeded-random.ts'
import { type SimulatedClock, simulatedClock } from './simulated-clock.ts'
import { createTrueRuns } from './simulated-executor.ts'
import type { SimulatedMachine } from './simulated-machine.ts'
import { createSimulatedMarket, type SimulatedMarket } from './simulated-market.ts'
import { simulatedNetwork } from './simulated-network.ts'
import { createTrace, type Trace } from './trace.ts'

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
  const { promises, trace, size, renters, faults } = world
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
    faults: faults.counts,
    violations: promises.violations,
    machines: size.machines,
    tasks: renters.count(),
    trace: trace.lines(),
    traceHash: trace.hash(),
  }
}

/** The world's parts, put together. */
function createWorld(seed: number, isTraceKept: boolean) {
  const random = seededRandom(seed)
  const size = sizeOf(seed)
  const clock = simulatedClock()
  const trace = createTrace(clock, { isKept: isTraceKept })
  const network = simulatedNetwork(clock, random.fork('network'))
  const disk = createMarketDisk(random.fork('disk'))
  const runs = createTrueRuns(clock)
  const machines: SimulatedMachine[] = []
  const market: SimulatedMarket = createSimulatedMarket({
    ...{ clock, random: random.fork('market'), network, disk, trace },
    onStarted: (generation) => promises.opened(generation),
    onEvent: (event) => hear(event),
    onTrouble: (message) => promises.broken('nothing goes wrong by itself', message),
  })
  const promises = createPromises({ clock, disk, runs, market, callerOf })
  const asking = createAsking({ clock, random: random.fork('asking'), market, promises, trace })
  const common = { clock, asking, market, promises, machines, network, trace, hourMs }
  const watchers = createWatchers(common)
  const faults = createFaults({ ...size, ...common, random: random.fork('faults') })
  const owners = createOwners({ ...size, ...common, random: random.fork('owners') })
  const operators = createOperators({ ...common, random: random.fork('operators') })
  const renters = createRenters({ ...size, ...common, random: random.fork('renters'), watchers })
  const temptation = { ...size, ...common, random: random.fork('temptation'), faults, renters }
  const hear = createTemptation(temptation)
  const inhabitants = createInhabitants({ ...common, random, size, runs, faults, renters })

  let steps = 0
  /** Steps until a time, or until something is broken. */
  async function goOn(untilMs: number) {
    while (promises.violations.length === 0 && (await clock.step(untilMs))) {
      steps++
      market.lookAround()
      promises.afterStep()
    }
  }
  async function passHours(hoursMax: number, isOver: (hour: number) => boolean) {
    for (let hour = 1; hour <= hoursMax && promises.violations.length === 0; hour++) {
      await goOn(clock.nowMs() + hourMs)
      promises.everyHour()
      if (isOver(hour)) return
    }
  }

  return {
    ...{ size, trace, promises, faults, renters },
    steps: () => steps,

    /** The market opens, people and machines arrive. */
    async settle() {
      clock.after(0, market.start)
      inhabitants.arrive()
      await goOn(settledMs)
      inhabitants.lookAfterMachines()
    },

    async live(hours: number) {
      for (const { begin } of [renters, owners, operators, faults]) begin()
      await passHours(hours, () => false)
    },

    /** Nobody wants anything new and nothing goes wrong any more: by and by everything ends, and what is asked for then is done. */
    async comeToRest() {
      trace('nothing goes wrong any more')
      for (const { end } of [renters, faults, owners, operators]) end()
      await passHours(restHoursMax, (hour) => hour > 4 && promises.isAtRest())
      inhabitants.askForOneMore()
      await passHours(restHoursMax, (hour) => hour > 1 && promises.isAtRest())
      if (promises.violations.length === 0) await promises.atTheEnd()
    },

    end() {
      market.kill('the world ends')
      for (const machine of machines) machine.kill('kill')
    },
  }
}

type Temptation = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly trace: Trace
  readonly faults: Faults
  readonly renters: Renters
  readonly promises: Pick<Promises, 'store'>
  readonly cutOffShare: number
}

/** Soon after something has happened is when things go wrong, or somebody changes their mind, in the worst way. */
function createTemptation(parts: Temptation): (event: StoredEvent) => void {
  const { clock, random, trace, faults, renters, promises, cutOffShare } = parts
  const machineOf = (attemptId: string) =>
    promises.store.openAttemptsByMachine().find(({ id }) => id === attemptId)?.hostname
  const chance = random.pick([0, 0, 0.005, 0.02])!
  return ({ type, attempt_id, task_id, user_id }) => {
    trace(`EVENT ${type} ${attempt_id ?? task_id ?? ''}`)
    if (faults.isOver()) return
    if (random.chance(chance)) faults.tempt()
    if (type === 'attempt.ready' && random.chance(cutOffShare)) faults.cutOff(machineOf(attempt_id!))
    if (type === 'attempt.ready' && random.chance(chance) && user_id !== null)
      clock.after(random.waitMs(100), () => renters.cancel(user_id, task_id!))
  }
}

/** Mostly 5 to 30 machines with one to four GPUs each; hundreds in one seed of fifty, for a shorter time. */
function sizeOf(seed: number): Size {
  const random = seededRandom(seed, 'size')
  const isLarge = seed % 50 === 49
  const machines = isLarge ? random.integer(100, 200) : random.integer(5, random.chance(0.25) ? 30 : 12)
  return {
    machines,
    owners: isLarge ? 20 : random.integer(2, 5),
    renters: isLarge ? 20 : random.integer(2, 7),
    hasForger: random.chance(0.3),
    hoursFactor: isLarge ? 0.25 : 1,
    speedUp: random.pick(speedUps)!,
    tasksPerHour: machines / 5,
    burstMax: machines,
    ...(random.chance(0.3) ? longWinded : shortWinded),
  }
}

/** Long tasks and long cuts go together: only so an agent loses what it still works on. */
const longWinded = { longTasksShare: 0.5, longCuts: { share: 0.9, meanMs: 200_000 }, cutOffShare: 0.1 }
const shortWinded = { longTasksShare: 0, longCuts: { share: 0.4, meanMs: 100_000 }, cutOffShare: 0 }
