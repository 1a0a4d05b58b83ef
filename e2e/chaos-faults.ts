import { setTimeout as sleep } from 'node:timers/promises'
import type { SeededRandom } from '../simulation/seeded-random.ts'
import type { Victim } from './chaos-processes.ts'
import type { Proxy } from './chaos-proxy.ts'

/** How often what was done. `restarts` counts every start after the first. */
export type FaultCounts = { kills: number; restarts: number; stops: number; cuts: number }

export type Trouble = {
  market: Victim
  agents: readonly Victim[]
  /** Between each agent and the market, and between the renters and the market. */
  proxies: readonly Proxy[]
  random: SeededRandom
  /** How long an agent may be silent. What is long is about as long. */
  deadMs: number
}

/**
 * Until `untilMs` something is killed, frozen or cut off every moment, at random; each thing has one trouble at a time. Resolves
 * when all of it is mended: everything is up and the network is good again.
 */
export async function makeTrouble(trouble: Trouble, untilMs: number): Promise<FaultCounts> {
  const { random, market, agents, proxies } = trouble
  const counts: FaultCounts = { kills: 0, restarts: 0, stops: 0, cuts: 0 }
  const inTrouble = new Set<Victim | Proxy>()
  const mending = new Set<Promise<void>>()
  while (Date.now() < untilMs) {
    await sleep(random.integer(100, 900))
    const target = random.pick<Victim | Proxy>([market, ...agents, ...proxies])!
    // Drawn whether it is free or not, so that the next draws do not depend on how fast this machine is.
    const fault = 'freeze' in target ? processFault(target, trouble, counts) : networkFault(target, trouble, counts)
    if (inTrouble.has(target)) continue
    inTrouble.add(target)
    const mended: Promise<void> = fault().finally(() => {
      inTrouble.delete(target)
      mending.delete(mended)
    })
    mending.add(mended)
  }
  await Promise.all(mending)
  return counts
}

type Fault = () => Promise<void>

function processFault(victim: Victim, { random, deadMs }: Trouble, counts: FaultCounts): Fault {
  const downMs = durationMs(random, deadMs)
  const frozenMs = durationMs(random, deadMs)
  const kind = random.pick(['kill', 'kill', 'freeze', 'freeze', 'end', 'freeze and kill'])!
  return async () => {
    if (kind.startsWith('freeze')) {
      counts.stops++
      victim.freeze()
      await sleep(frozenMs)
      if (kind === 'freeze') return victim.thaw()
    }
    if (kind === 'end') await victim.end()
    else {
      counts.kills++
      await victim.kill()
    }
    await sleep(downMs)
    counts.restarts++
    await victim.start()
  }
}

function networkFault(proxy: Proxy, { random, deadMs }: Trouble, counts: FaultCounts): Fault {
  const forMs = durationMs(random, deadMs)
  const kind = random.pick(['cut', 'cut', 'stall', 'refuse', 'client alone', 'market alone', 'stall and cut'])!
  return async () => {
    counts.cuts++
    if (kind === 'cut') return proxy.cut()
    if (kind === 'client alone') return proxy.halfOpen('client')
    if (kind === 'market alone') return proxy.halfOpen('market')
    if (kind === 'refuse') proxy.refuse()
    else proxy.stall()
    await sleep(forMs)
    if (kind === 'stall and cut') proxy.cut()
    proxy.heal()
  }
}

/** Mostly short; one in three is about as long as it takes for an agent to be given up. */
function durationMs(random: SeededRandom, deadMs: number): number {
  const isLong = random.chance(0.33)
  return isLong ? random.integer(deadMs / 2, 1.5 * deadMs) : random.integer(10, deadMs / 4)
}
