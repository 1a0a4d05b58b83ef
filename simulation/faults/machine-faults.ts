import { healthyMachineDisk } from '../machine-disk.ts'
import type { SeededRandom } from '../seeded-random.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { SimulatedMachine } from '../simulated-machine.ts'
import { type Mishap, mishaps, type SimulatedNetwork, type Weather } from '../simulated-network.ts'
import type { MachineFault } from './fault-kinds.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  /** How long something stays as it is. */
  outageMs(): number
  /** The same of a cut. */
  cutMs(): number
}
type Strike = (machine: SimulatedMachine, struck: () => void) => void

/** What goes wrong with a machine or with its way to the market. Each says when it has struck: there may be nothing to strike. */
export function machineFaults({ clock, random, network, outageMs, cutMs }: Parts): Record<MachineFault, Strike> {
  /** What comes upon what is there already does not end it. */
  const weatherUntilMs = new Map<string, number>()
  const down =
    (how: 'kill' | 'power'): Strike =>
    (machine, struck) => {
      if (!machine.isUp()) return
      struck()
      machine.kill(how)
      clock.after(outageMs(), machine.start)
    }
  const freeze =
    (how: 'process' | 'machine'): Strike =>
    (machine, struck) => {
      if (!machine.isUp()) return
      struck()
      machine.freeze(how, outageMs())
    }
  const weather =
    (change: () => Partial<Weather>, forMs = outageMs): Strike =>
    ({ name }, struck) => {
      struck()
      network.worsen(name, change())
      const overMs = clock.nowMs() + forMs()
      weatherUntilMs.set(name, Math.max(overMs, weatherUntilMs.get(name) ?? 0))
      clock.after(overMs - clock.nowMs(), () => clock.nowMs() >= weatherUntilMs.get(name)! && network.heal(name))
    }
  const connections =
    (work: (connection: ReturnType<SimulatedNetwork['connectionsOf']>[number]) => void): Strike =>
    ({ name }, struck) => {
      const all = network.connectionsOf(name)
      if (all.length > 0) struck()
      for (const connection of all) work(connection)
    }
  const lossy = () => {
    const chance = random.pick([0.01, 0.05, 0.2])!
    const of = () => (random.chance(0.5) ? chance : 0)
    return { mishaps: Object.fromEntries(mishaps.map((mishap) => [mishap, of()])) as Record<Mishap, number> }
  }

  return {
    'agent killed': down('kill'),
    'agent killed midway'(machine, struck) {
      machine.killAfter(random.integer(1, random.pick([3, 30])!), () => {
        struck()
        clock.after(outageMs(), machine.start)
      })
    },
    'machine without power': down('power'),
    'agent frozen': freeze('process'),
    'machine asleep': freeze('machine'),
    'clock set'(machine, struck) {
      struck()
      machine.setWallClock(random.integer(-200_000, 200_000))
    },
    'machine disk full'({ disk }, struck) {
      struck()
      disk.health.isFull = true
      clock.after(outageMs(), () => Object.assign(disk.health, healthyMachineDisk))
    },
    'network cut': weather(() => ({ cut: ['to market', 'to agent'] }), cutMs),
    'network one way': weather(() => ({ cut: [random.pick(['to market', 'to agent'] as const)!] }), cutMs),
    'network slow': weather(() => ({ latencyMsMax: random.pick([1_000, 4_000, 12_000])! })),
    'network lossy': weather(lossy),
    'connection dropped': connections((connection) => connection.drop()),
    'connection half open': connections((connection) =>
      connection.halfOpen(random.pick(['neither', 'neither', 'agent', 'market'] as const)!),
    ),
    'connection overtaken': connections((connection) => connection.overtake()),
  }
}
