import { healthyMachineDisk } from '../machine-disk.ts'
import { healthyDisk } from '../market-disk.ts'
import type { SeededRandom } from '../seeded-random.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { SimulatedMachine } from '../simulated-machine.ts'
import type { SimulatedMarket } from '../simulated-market.ts'
import type { SimulatedNetwork } from '../simulated-network.ts'
import type { Trace } from '../trace.ts'
import { type FaultKind, interruptions, marketTroubles, troubles } from './fault-kinds.ts'
import { machineFaults } from './machine-faults.ts'
import { marketFaults } from './market-faults.ts'
import { hoursBetweenMarketFaults, interruptionsPerMachineHour, troublesPerMachineHour } from './rates.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly market: SimulatedMarket
  readonly machines: readonly SimulatedMachine[]
  readonly trace: Trace
  /** How long a simulated hour is. */
  readonly hourMs: number
  /** By how much more often machines go away than they do in the world. */
  readonly speedUp: number
  readonly longCuts: LongCuts
}
export type LongCuts = { readonly share: number; readonly meanMs: number }
export type Faults = ReturnType<typeof createFaults>

/** Everything that goes wrong. What stays broken (a machine that is off, a full disk) is mended after a while. */
export function createFaults(parts: Parts) {
  const { clock, random, network, market, machines, trace, hourMs, speedUp, longCuts } = parts
  const counts = new Map<FaultKind, number>()
  let isOver = false
  /** Some are over before anybody takes the machine for dead, some are not. */
  const outageMs = ({ share, meanMs } = { share: 0.4, meanMs: 100_000 }) =>
    random.waitMs(random.chance(share) ? meanMs : 8_000)
  const ofMachine = machineFaults({ clock, random, network, outageMs, cutMs: () => outageMs(longCuts) })
  const ofMarket = marketFaults({ clock, random, network, market, machines, outageMs })

  function count(kind: FaultKind, where = '') {
    trace(`FAULT ${kind}${where}`)
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  network.onMishap((mishap, machine) => count(`message ${mishap}`, ` at ${machine}`))

  function strikeMachine(kind: keyof typeof ofMachine, machine = random.pick(machines)) {
    if (machine) ofMachine[kind](machine, () => count(kind, ` at ${machine.name}`))
  }
  const strikeMarket = (kind: keyof typeof ofMarket) => ofMarket[kind](() => count(kind))

  function again(meanMs: number, strike: () => void) {
    clock.after(random.waitMs(meanMs), () => {
      if (isOver) return
      strike()
      again(meanMs, strike)
    })
  }

  /** `perMachineHour`: of all these kinds together. */
  function plan(kinds: readonly (keyof typeof ofMachine)[], { perMachineHour, appetite }: Plan) {
    const meanMs = (hourMs * kinds.length) / (perMachineHour * speedUp * machines.length)
    for (const kind of kinds) if (random.chance(appetite)) again(meanMs, () => strikeMachine(kind))
  }

  return {
    counts,
    isOver: () => isOver,
    forged: () => count('message forged'),

    /** Each seed has some kinds of trouble, each as often as it likes: all at once would hide what one alone shows. */
    begin() {
      const appetite = random.pick([0.3, 0.6, 0.9])!
      plan(interruptions, { perMachineHour: interruptionsPerMachineHour, appetite })
      plan(troubles, { perMachineHour: troublesPerMachineHour, appetite })
      for (const kind of marketTroubles)
        if (random.chance(appetite)) again(hourMs * random.pick(hoursBetweenMarketFaults)!, () => strikeMarket(kind))
    },

    /** Soon after something has happened is when things go wrong in the worst way. */
    tempt() {
      clock.after(random.waitMs(60), () => {
        if (isOver) return
        if (random.chance(0.5)) strikeMachine(random.pick(interruptions)!)
        else strikeMarket(random.pick(['market killed', 'market killed midway', 'market crash after commit'])!)
      })
    },

    /** The network of this machine, soon. */
    cutOff(name: string | undefined) {
      const machine = machines.find((one) => one.name === name)
      if (machine) clock.after(random.waitMs(1_000), () => isOver || strikeMachine('network cut', machine))
    },

    /**
     * From now on nothing goes wrong, and what is broken is mended: but for some machines which are away, whose owners have given
     * up. Often the market has just been restarted, and waits for them.
     */
    end() {
      isOver = true
      Object.assign(market.disk.health, healthyDisk)
      market.disk.undecided()
      market.killAfter(Infinity, () => {})
      market.thaw()
      if (random.chance(0.5)) market.kill('for the last time')
      market.start()
      for (const machine of machines.slice(1)) if (!machine.isUp() && random.chance(0.5)) machine.retire()
      for (const machine of machines) {
        network.heal(machine.name)
        machine.killAfter(Infinity, () => {})
        Object.assign(machine.disk.health, healthyMachineDisk)
        machine.start()
      }
    },
  }
}
type Plan = { perMachineHour: number; appetite: number }
