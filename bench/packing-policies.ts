import { wholeMilli } from '@orbyte/protocol'
import { createRoomValue, milliOf, type MixShape } from '@orbyte/server/scheduler/packing.ts'
import { createTaskMix } from '@orbyte/server/scheduler/task-mix.ts'
import type { SeededRandom } from '../simulation/seeded-random.ts'
import type { Cluster, Place, State } from './packing-cluster.ts'
import type { PodClass, Trace } from './packing-trace.ts'

/** Where the pod goes; null: it fits nowhere. */
export type Choose = (pod: PodClass) => Place | null
export type Policy = (at: { trace: Trace; cluster: Cluster; random: SeededRandom; mix: string }) => Choose

export const policies = { random: chooseRandomly, 'best-fit': chooseBestFit, fgd: chooseFgd, orbyte: chooseOrbyte }

/** Any machine that it fits, then any GPU in it. */
function chooseRandomly({ cluster, random }: Parameters<Policy>[0]): Choose {
  return (pod) => {
    const fitting: number[] = []
    for (const [machine, state] of cluster.states.entries())
      if (cluster.statesAfter(state, pod).length > 0) fitting.push(machine)
    const machine = random.pick(fitting)
    if (machine === undefined) return null
    return { machine, after: random.pick(cluster.statesAfter(cluster.states[machine]!, pod))! }
  }
}

/** The machine that has least left, processor and GPUs weighing the same; in it the GPU that has least left. */
function chooseBestFit({ trace, cluster }: Parameters<Policy>[0]): Choose {
  const cpuMost = Math.max(...trace.machines.map(({ room }) => room.cpuMilli))
  const gpuMost = Math.max(...trace.machines.map(({ room }) => room.freeMilli.length)) * wholeMilli
  const left = (state: State) => state.room.cpuMilli / cpuMost + state.freeMilli / gpuMost
  const best = bestOf(cluster, (_before, after) => -left(after))
  return (pod) => best.choose(pod)
}

/**
 * Fragmentation gradient descent, as published: a machine's fragmentation is what is expected of its free GPUs to be of no use
 * to the next task, over the shapes that tasks have. As in its authors' scheduler, growth is scored in whole numbers from 0 to
 * 100, and among equals the first machine wins; without that rounding it reaches about a point less.
 */
function chooseFgd({ trace, cluster }: Parameters<Policy>[0]): Choose {
  const fragmentation = remembered((state) => expectedFragment(state, trace.classes) / trace.pods.length)
  const score = (before: State, after: State) =>
    Math.trunc(100 / (1 + Math.exp((fragmentation(after) - fragmentation(before)) / wholeMilli)))
  const best = bestOf(cluster, score)
  return (pod) => best.choose(pod)
}

function expectedFragment({ kind, room, freeMilli, wholeGpus }: State, classes: readonly PodClass[]): number {
  let sum = 0
  for (const { shape, weight, runsOn } of classes) {
    const lacks = room.cpuMilli < shape.cpuMilli || room.ramMib < shape.ramMib || (runsOn !== null && !runsOn.has(kind))
    if (lacks || shape.gpus === 0) sum += weight * freeMilli
    else if (shape.milliEach === wholeMilli)
      sum += weight * (wholeGpus < shape.gpus ? freeMilli : freeMilli - wholeGpus * wholeMilli)
    else for (const milli of room.freeMilli) if (milli < shape.milliEach) sum += weight * milli
  }
  return sum
}

/** The market's own. What it knows is renewed after each hundredth of the cluster that was given out. */
function chooseOrbyte({ trace, cluster, mix }: Parameters<Policy>[0]): Choose {
  const learnt = createTaskMix<PodClass>({ tasksRemembered: 10_000, kindsMax: 300 })
  const learntMix = () => learnt.all().map(({ asked, weight }) => ({ ...asked, weight }))
  const mixNow = (): readonly MixShape[] => (mix === 'learnt' ? learntMix() : trace.classes)
  const renew = () => {
    const value = createRoomValue(mixNow(), cluster.freeMilliOf)
    const valueOf = remembered(({ kind, room }) => value(kind, room))
    return bestOf(cluster, (before, after) => valueOf(after) - valueOf(before))
  }
  const isStatic = mix === 'given' && trace.classes.every(({ runsOn }) => runsOn === null)
  let best = renew()
  let arrivedMilli = 0
  return (pod) => {
    learnt.add(String(pod.index), pod)
    arrivedMilli += milliOf(pod.shape)
    if (!isStatic && arrivedMilli > trace.totalMilli / 100) {
      best = renew()
      arrivedMilli = 0
    }
    return best.choose(pod)
  }
}

/** The place with the highest score; of equal ones the first machine, and in it the GPU that has least left. */
function bestOf(cluster: Cluster, score: (before: State, after: State) => number) {
  type Best = { readonly score: number; readonly after: State }
  /** By state, then by class of pods. */
  const known: (Best | null)[][] = []
  function bestIn(state: State, pod: PodClass): Best | null {
    let best: Best | null = null
    for (const after of cluster.statesAfter(state, pod)) {
      const each = score(state, after)
      if (best === null || each >= best.score) best = { score: each, after }
    }
    return best
  }
  return {
    choose(pod: PodClass): Place | null {
      let place: Place | null = null
      let highest = -Infinity
      for (const [machine, state] of cluster.states.entries()) {
        const ofState = (known[state.id] ??= [])
        let best = ofState[pod.index]
        if (best === undefined) best = ofState[pod.index] = bestIn(state, pod)
        if (best === null || best.score <= highest + 1e-9) continue
        highest = best.score
        place = { machine, after: best.after }
      }
      return place
    },
  }
}

function remembered(valueOf: (state: State) => number): (state: State) => number {
  const known: number[] = []
  return (state) => (known[state.id] ??= valueOf(state))
}
