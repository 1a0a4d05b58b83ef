import { milliOf } from '@orbyte/server/scheduler/packing.ts'
import { seededRandom, type SeededRandom } from '../simulation/seeded-random.ts'
import { Cluster } from './packing-cluster.ts'
import type { Policy } from './packing-policies.ts'
import type { PodClass, Trace } from './packing-trace.ts'

export type Outcome = {
  /** GPUs given out when as many were asked for as there are, and at the end; in % of all. */
  readonly at100: number
  readonly at130: number
  readonly dropped: number
}

const askedShare = 1.3

/** Fills a cluster with pods that never leave, one by one; one that fits nowhere is dropped. */
export function runExperiment(trace: Trace, policy: Policy, { seed, mix }: { seed: number; mix: string }): Outcome {
  const cluster = new Cluster(trace)
  const choose = policy({ trace, cluster, random: seededRandom(seed, 'policy'), mix })
  let [asked, given, dropped] = [0, 0, 0]
  let at100: number | null = null
  for (const pod of arrivals(trace, seededRandom(seed, 'arrivals'))) {
    const place = choose(pod)
    asked += milliOf(pod.shape)
    if (place) {
      cluster.place(pod, place)
      given += milliOf(pod.shape)
    } else dropped++
    if (at100 === null && asked >= trace.totalMilli) at100 = given
  }
  return { at100: (100 * at100!) / trace.totalMilli, at130: (100 * given) / trace.totalMilli, dropped }
}

/** The trace's pods and, until 130 % of the GPUs have been asked for, some drawn from them again; all shuffled. */
function arrivals({ pods, totalMilli }: Trace, random: SeededRandom): PodClass[] {
  const arriving = [...pods]
  let asked = pods.reduce((sum, { shape }) => sum + milliOf(shape), 0)
  if (asked === 0) throw new Error('no pod of the trace asks for a GPU')
  while (asked < totalMilli * askedShare) {
    const pod = random.pick(pods)!
    arriving.push(pod)
    asked += milliOf(pod.shape)
  }
  for (let last = arriving.length - 1; last > 0; last--) {
    const other = random.integer(0, last)
    ;[arriving[last], arriving[other]] = [arriving[other]!, arriving[last]!]
  }
  return arriving
}
