import { type Micros, micros } from '@orbyte/protocol'
import TinyQueue from 'tinyqueue'
import type { Context } from '../context.ts'
import type { GpuRegistry, MarketGpu } from '../gpus/gpu-registry.ts'
import { gpuStatus } from '../gpus/gpu-status.ts'
import type { AttemptBook } from './attempt-book.ts'
import { GpuIndex } from './gpu-index.ts'
import { GpuSearch } from './gpu-search.ts'
import type { Found } from './match-in-turns.ts'
import { warmthOn } from './expected-cost.ts'
import type { Wanted } from './matching.ts'
import { wholeMilli } from './packing.ts'
import type { AgentLink } from './scheduler-service.ts'

type Parts = { registry: GpuRegistry; agents: Pick<AgentLink, 'isConnected'>; book: Pick<AttemptBook, 'offersTo'> }
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
    if (registry.get(gpu.id) !== gpu) {
      notLetIn.delete(gpu)
      shared.delete(gpu)
      return index.remove(gpu.id)
    }
    const status = gpuStatus(gpu)
    const isThere = status === 'available' || status === 'in_use'
    const isShared = false
    if (isShared) shared.add(gpu)
    else shared.delete(gpu)
    index.put(gpu, { isThere, freeMilli: openMilli(gpu), isShared })
  }

  function freeMilli(gpu: MarketGpu): number {
    return canBeAsked(gpu) ? wholeMilli : 0
  }

  /** What anybody may have of it. */
  function openMilli(gpu: MarketGpu): number {
    const most = limits.get(gpu.id)
    return most ? Math.min(freeMilli(gpu), most()) : freeMilli(gpu)
  }

  function canBeAsked(gpu: MarketGpu): boolean {
    notLetIn.delete(gpu)
    if (gpuStatus(gpu) !== 'available' || gpu.agentId === null || book.offersTo(gpu.id)) return false
    if (gpu.coolDownUntilMs > clock.now()) awaitCoolDown(gpu)
    else if (!agents.isConnected(gpu.agentId)) notLetIn.add(gpu)
    else return true
    return false
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
    for (const gpu of lent) index.setFree(gpu.id, freeMilli(gpu))
    const gpu = choose(wanted) ?? chooseAgain(wanted)
    for (const gpu of lent) index.setFree(gpu.id, openMilli(gpu))
    return gpu && { gpu, isWarm: warmthOn(wanted, gpu) === 'loaded' }
  }

  function chooseAgain(wanted: Wanted): MarketGpu | null {
    if (wanted.failedGpus.size === 0 || search.fitsAnother(wanted, clock.now())) return null
    return choose({ ...wanted, retryFailed: true })
  }

  function choose(wanted: Wanted): MarketGpu | null {
    for (;;) {
      const choice = search.choose(wanted, { nowMs: clock.now(), random })
      const gpu = choice?.gpus[0] ?? null
      if (gpu === null || canBeAsked(gpu)) return gpu
      // Its agent has gone this moment, and the registry has not heard of it.
      refresh(gpu)
    }
  }

  return {
    /** All GPUs of the market, free or not, as they are now. */
    index(): GpuIndex {
      catchUp()
      return index
    },
    /** The highest price of those that fit, free or busy. Null: none fits. */
    dearestFitting(wanted: Wanted): Micros | null {
      const price = search.dearestFitting(wanted, clock.now())
      return price === null ? null : micros(price)
    },
    find,
    /** Whether it has been asked has changed, and nothing else. */
    askedChanged(gpuId: string) {
      const gpu = registry.get(gpuId)
      if (gpu) index.setFree(gpuId, openMilli(gpu))
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
