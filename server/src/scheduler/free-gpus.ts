import { type Micros, micros, wholeMilli } from '@orbyte/protocol'
import TinyQueue from 'tinyqueue'
import type { Context } from '../context.ts'
import type { GpuRegistry, MarketGpu } from '../gpus/gpu-registry.ts'
import { gpuStatus, isOnTrial, takesTasks } from '../gpus/gpu-status.ts'
import type { AttemptBook } from './attempt-book.ts'
import { GpuIndex } from './gpu-index.ts'
import { type Choice, GpuSearch } from './gpu-search.ts'
import type { Found } from './match-in-turns.ts'
import { warmthOn } from './expected-cost.ts'
import type { Wanted } from './matching.ts'
import type { AgentLink } from './scheduler-service.ts'

type Parts = { registry: GpuRegistry; agents: Pick<AgentLink, 'isConnected'>; book: Pick<AttemptBook, 'offeredMilli'> }
export type FreeGpus = ReturnType<typeof createFreeGpus>

/** Which GPUs may be asked now, kept up with the registry and the book of attempts. */
export function createFreeGpus(context: Context, { registry, agents, book }: Parts) {
  const { clock } = context
  const index = new GpuIndex()
  const search = new GpuSearch(index)
  /** Whose cool-down ends when. */
  const cooling = new TinyQueue<{ gpu: MarketGpu; untilMs: number }>([], (a, b) => a.untilMs - b.untilMs)
  const coolingUntilMs = new Map<MarketGpu, number>()
  /** Their agents are here and have not been let in yet: nobody tells when they are. */
  const notLetIn = new Set<MarketGpu>()
  /** GPUs of which room is kept, and how much of each anybody may have. */
  const limits = new Map<string, () => number>()
  /** Their owners let tasks share them. */
  const shared = new Set<MarketGpu>()

  for (const gpu of registry.all()) refresh(gpu)
  const stop = registry.onChange(refresh)

  /** Takes in the GPU as it is now. */
  function refresh(gpu: MarketGpu) {
    if (!registry.has(gpu)) {
      notLetIn.delete(gpu)
      shared.delete(gpu)
      return index.remove(gpu)
    }
    const status = gpuStatus(gpu)
    const isThere = status === 'available' || status === 'in_use'
    if (gpu.sharing) shared.add(gpu)
    else shared.delete(gpu)
    index.put(gpu, { isThere, freeMilli: openMilli(gpu) })
  }

  /** What anybody may have of it. */
  function openMilli(gpu: MarketGpu): number {
    const most = limits.get(gpu.id)
    return most ? Math.min(freeMilliOf(gpu), most()) : freeMilliOf(gpu)
  }

  /** Thousandths of it that can be asked for now. One on trial is given to one task at a time. */
  function freeMilliOf(gpu: MarketGpu): number {
    notLetIn.delete(gpu)
    const freeMilli = wholeMilli - gpu.takenMilli - book.offeredMilli(gpu.id)
    const isDivided = gpu.sharing && !isOnTrial(gpu)
    if (!takesTasks(gpu) || gpu.agentId === null || freeMilli < (isDivided ? 1 : wholeMilli)) return 0
    if (gpu.coolDownUntilMs > clock.now()) awaitCoolDown(gpu)
    else if (!agents.isConnected(gpu.agentId)) notLetIn.add(gpu)
    else return freeMilli
    return 0
  }

  function awaitCoolDown(gpu: MarketGpu) {
    const { coolDownUntilMs: untilMs } = gpu
    if (coolingUntilMs.get(gpu) === untilMs) return
    coolingUntilMs.set(gpu, untilMs)
    cooling.push({ gpu, untilMs })
  }

  /** What time has changed, and agents that were let in. */
  function catchUp() {
    for (const gpu of [...notLetIn]) refresh(gpu)
    const nowMs = clock.now()
    for (let first = cooling.peek(); first && first.untilMs <= nowMs; first = cooling.peek()) {
      cooling.pop()
      if (coolingUntilMs.get(first.gpu) === first.untilMs) coolingUntilMs.delete(first.gpu)
      refresh(first.gpu)
    }
  }

  /** From 0 to below 1. */
  const random = () => Buffer.from(context.random.bytes(4)).readUInt32BE() / 2 ** 32

  /**
   * The best that is free for this task: of what anybody may have, and of all of the GPUs that are lent to it. One that has failed
   * or refused it is asked again once its time has come, where no other GPU could run it.
   */
  function find(wanted: Wanted, lent: readonly MarketGpu[] = []): Found | null {
    const there = lent.filter((gpu) => registry.has(gpu))
    for (const gpu of there) index.setFree(gpu.number, freeMilliOf(gpu))
    const choice = choose(wanted) ?? chooseAgain(wanted)
    for (const gpu of there) index.setFree(gpu.number, openMilli(gpu))
    return choice && { choice, isWarm: warmthOn(wanted, choice.gpus[0]!) === 'loaded' }
  }

  function chooseAgain(wanted: Wanted): Choice | null {
    if (wanted.failedGpus.size === 0 || search.fitsAnother(wanted, clock.now())) return null
    return choose({ ...wanted, retryFailed: true })
  }

  function choose(wanted: Wanted): Choice | null {
    for (;;) {
      const choice = search.choose(wanted, { nowMs: clock.now(), random })
      if (choice === null || choice.gpus.every((gpu) => freeMilliOf(gpu) >= choice.milliEach)) return choice
      // Its agent has gone this moment, and the registry has not heard of it.
      for (const gpu of choice.gpus) refresh(gpu)
    }
  }

  return {
    /** All GPUs of the market, free or not, as they are now. */
    index(): GpuIndex {
      catchUp()
      return index
    },
    /** The highest price of what fits, free or busy. Null: nothing does. */
    dearestFitting(wanted: Wanted): Micros | null {
      const price = search.dearestFitting(wanted, clock.now())
      return price === null ? null : micros(price)
    },
    find,
    /** Whether it has been asked has changed, and nothing else. */
    askedChanged(gpuId: string) {
      const gpu = registry.get(gpuId)
      if (gpu) index.setFree(gpu.number, openMilli(gpu))
    },
    /** From now on nobody finds more of it than `mostMilli` says, but whom it is lent to. Null: there is no such limit. */
    limit(gpu: MarketGpu, mostMilli: (() => number) | null) {
      if (mostMilli) limits.set(gpu.id, mostMilli)
      else limits.delete(gpu.id)
      refresh(gpu)
    },
    /** Whether owners let tasks share any. */
    areShared: () => shared.size > 0,
    catchUp,
    arrived: (wanted: Wanted) => search.arrived(wanted),
    stop,
  }
}
