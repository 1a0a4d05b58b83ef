import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import { healthyDisk } from './simulated-disk.ts'
import type { SimulatedMachine } from './simulated-machine.ts'
import type { SimulatedMarket } from './simulated-market.ts'
import type { SimulatedNetwork } from './simulated-network.ts'
import type { Trace } from './trace.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly market: SimulatedMarket
  readonly machines: readonly SimulatedMachine[]
  readonly trace: Trace
}
export type Faults = ReturnType<typeof createFaults>

/** Everything that goes wrong. What stays broken (a machine that is off, a full disk) is mended after a while. */
export function createFaults({ clock, random, network, market, machines, trace }: Parts) {
  const counts = new Map<FaultKind, number>()
  let isOver = false
  const outageMs = () => (random.chance(0.6) ? random.waitMs(8_000) : random.waitMs(100_000))

  const faults: Record<FaultKind, (machine: SimulatedMachine) => boolean> = {
    'agent killed': (machine) => downFor(machine, 'kill'),
    'machine without power': (machine) => downFor(machine, 'power'),
    'agent frozen': (machine) => freeze(machine, 'process'),
    'machine asleep': (machine) => freeze(machine, 'machine'),
    'clock set': (machine) => {
      machine.setWallClock(random.integer(-200_000, 200_000))
      return true
    },
    'connection dropped': ({ name }) => network.breakConnection(name, false),
    'connection half open': ({ name }) => network.breakConnection(name, true),
    'network cut'({ name }) {
      network.weatherOf(name).isCut = true
      clock.after(outageMs(), () => network.heal(name))
      return true
    },
    'network slow'({ name }) {
      network.weatherOf(name).latencyMsMax = random.pick([1_000, 4_000, 12_000])!
      clock.after(outageMs(), () => network.heal(name))
      return true
    },
    'machine disk full'({ disk }) {
      disk.health.isFull = true
      clock.after(outageMs(), () => (disk.health.isFull = false))
      return true
    },
    'market killed': () => marketDown(() => market.kill('kill -9')),
    'market stopped': () => marketDown(() => market.stop()),
    'market crash before commit': () => crashAtCommit('before'),
    'market crash after commit': () => crashAtCommit('after'),
    'market frozen'() {
      market.freeze()
      clock.after(random.waitMs(8_000), () => market.thaw())
      return true
    },
    'market disk full'() {
      market.disk.health.isFull = true
      clock.after(random.waitMs(10_000), () => (market.disk.health.isFull = false))
      return true
    },
    'market disk slow'() {
      market.disk.health.writeMsMax = random.pick([200, 1_000, 4_000])!
      clock.after(random.waitMs(20_000), () => (market.disk.health.writeMsMax = healthyDisk.writeMsMax))
      return true
    },
  }

  function downFor(machine: SimulatedMachine, how: 'kill' | 'power'): boolean {
    if (!machine.isUp()) return false
    machine.kill(how)
    clock.after(outageMs(), () => machine.start())
    return true
  }

  function freeze(machine: SimulatedMachine, how: 'process' | 'machine'): boolean {
    if (!machine.isUp()) return false
    machine.freeze(how, outageMs())
    return true
  }

  function marketDown(how: () => void): boolean {
    if (!market.current()) return false
    how()
    const restart = () => {
      market.kill('stopping took too long')
      market.start()
    }
    clock.after(random.chance(0.7) ? random.waitMs(3_000) : random.waitMs(60_000), restart)
    return true
  }

  function crashAtCommit(when: 'before' | 'after'): boolean {
    if (!market.current()) return false
    market.disk.crashAtCommit(when, () => {
      market.kill(`${when} the commit`)
      clock.after(random.waitMs(3_000), () => market.start())
    })
    return true
  }

  function inject(kind: FaultKind, machine: SimulatedMachine) {
    if (isOver) return
    trace(`FAULT ${kind}${kind.startsWith('market') ? '' : ` at ${machine.name}`}`)
    if (faults[kind](machine)) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }

  function plan(kind: FaultKind, meanMs: number) {
    clock.after(random.waitMs(meanMs), () => {
      if (isOver) return
      const machine = random.pick(machines)
      if (machine) inject(kind, machine)
      plan(kind, meanMs)
    })
  }

  return {
    counts,
    /** Each seed has some kinds of trouble, each as often as it likes: all at once would hide what one alone shows. */
    begin() {
      const kinds = Object.keys(faults) as FaultKind[]
      const appetite = random.pick([0.3, 0.6, 0.9])!
      for (const kind of kinds)
        if (random.chance(appetite))
          plan(kind, random.pick([30_000, 90_000, 300_000])! * (kind.startsWith('market') ? 1.5 : 1))
    },
    /** Soon after something has happened is when things go wrong in the worst way. */
    tempt(machine: SimulatedMachine | undefined) {
      const kinds = [
        'agent killed',
        'connection dropped',
        'market killed',
        'market crash before commit',
        'market crash after commit',
        'network cut',
      ] as const
      const kind = random.pick(kinds)!
      if (machine) clock.after(random.waitMs(60), () => inject(kind, machine))
    },
    /** From now on nothing goes wrong, and everything that is broken is mended. */
    end() {
      isOver = true
      market.thaw()
      Object.assign(market.disk.health, healthyDisk)
      market.disk.crashAtCommit('before', () => {})
      market.start()
      for (const machine of machines) {
        network.heal(machine.name)
        Object.assign(machine.disk.health, healthyDisk)
        machine.start()
      }
    },
  }
}

export type FaultKind =
  | 'agent killed'
  | 'machine without power'
  | 'agent frozen'
  | 'machine asleep'
  | 'clock set'
  | 'connection dropped'
  | 'connection half open'
  | 'network cut'
  | 'network slow'
  | 'machine disk full'
  | 'market killed'
  | 'market stopped'
  | 'market crash before commit'
  | 'market crash after commit'
  | 'market frozen'
  | 'market disk full'
  | 'market disk slow'
