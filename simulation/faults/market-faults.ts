import { type CommitFate, type DiskHealth, healthyDisk } from '../market-disk.ts'
import type { SeededRandom } from '../seeded-random.ts'
import type { SimulatedClock } from '../simulated-clock.ts'
import type { SimulatedMachine } from '../simulated-machine.ts'
import type { SimulatedMarket } from '../simulated-market.ts'
import type { SimulatedNetwork } from '../simulated-network.ts'
import type { MarketFault } from './fault-kinds.ts'

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly market: SimulatedMarket
  readonly machines: readonly SimulatedMachine[]
  outageMs(): number
}
type Strike = (struck: () => void) => void

/** What goes wrong with the market itself, or with many machines at once. */
export function marketFaults(parts: Parts): Record<MarketFault, Strike> {
  const { clock, random, network, market, machines, outageMs } = parts
  const startSoon = (meanMs: number) => clock.after(random.waitMs(meanMs), market.start)

  const atCommit =
    (fate: CommitFate): Strike =>
    (struck) => {
      market.disk.decideNextCommit(fate, () => {
        struck()
        market.kill(`at a commit: ${fate}`)
        startSoon(3_000)
      })
    }
  const whileUp =
    (work: () => void): Strike =>
    (struck) => {
      if (!market.current()) return
      struck()
      work()
    }
  const disk =
    (meanMs: number, worsen: () => Partial<DiskHealth>): Strike =>
    (struck) => {
      struck()
      Object.assign(market.disk.health, worsen())
      clock.after(random.waitMs(meanMs), () => Object.assign(market.disk.health, healthyDisk))
    }
  const restartLater = () => startSoon(random.chance(0.7) ? 3_000 : 60_000)

  return {
    'market killed': whileUp(() => {
      market.kill('kill -9')
      restartLater()
    }),
    'market killed midway'(struck) {
      market.killAfter(random.integer(1, random.pick([3, 30, 300])!), () => {
        struck()
        restartLater()
      })
    },
    'market stopped': whileUp(() => {
      market.stop()
      // Whoever stops it starts another, whether it has ended by then or hangs.
      clock.after(random.chance(0.7) ? random.waitMs(3_000) : random.waitMs(60_000), () => {
        market.kill('stopping took too long')
        market.start()
      })
    }),
    'market crash before commit': atCommit('undone'),
    'market crash after commit': atCommit('done'),
    'market commit in doubt': atCommit('in doubt'),
    'market frozen': whileUp(() => {
      market.freeze()
      clock.after(random.waitMs(8_000), market.thaw)
    }),
    'market disk full': disk(10_000, () => ({ isFull: true })),
    'market disk slow': disk(20_000, () => ({ writeMsMax: random.pick([200, 1_000, 4_000])! })),
    'market disk errors': disk(10_000, () => ({ errorChance: random.pick([0.002, 0.02])! })),
    'network partition'(struck) {
      const share = random.pick([0.3, 0.6, 1])!
      const apart = machines.filter(() => random.chance(share))
      if (apart.length < 2) return
      struck()
      for (const { name } of apart) network.worsen(name, { cut: ['to market', 'to agent'] })
      clock.after(outageMs(), () => apart.forEach(({ name }) => network.heal(name)))
    },
  }
}
