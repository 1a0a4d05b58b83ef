import { formatOrb, micros, type Micros, type Requirements } from '@orbyte/protocol'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { Wanted } from './matching.ts'
import type { RejectionCode } from './rankers.ts'
import { countFree, type Survey } from './survey.ts'

/** A smallest change of what a task asks for that lets more GPUs run it. */
export type Relaxation = {
  /** What to ask for instead: all of it, not only what is different. */
  readonly requirements: Requirements
  readonly maxPriceMicrosPerHour: Micros | null
  /** What is different, for a person, like "+0.04 ORB an hour". */
  readonly message: string
  /** How many GPUs fit with it that do not fit without, and how many of those are free. */
  readonly gpus: number
  readonly free: number
}

/** What a renter may give up. */
type Wish = 'price' | 'vram' | 'model' | 'region' | 'kind' | 'gpu' | 'cores' | 'ram' | 'storage'
const wishOfCode: Partial<Record<RejectionCode, Wish>> = {
  price_above_maximum: 'price',
  vram_too_small: 'vram',
  gpu_model_differs: 'model',
  region_differs: 'region',
  kind_not_wanted: 'kind',
  other_gpu_requested: 'gpu',
  cpu_cores_too_few: 'cores',
  ram_too_small: 'ram',
  storage_too_small: 'storage',
}
/** GPUs that would fit if just these wishes were given up, as far as it takes. */
type Near = { readonly wishes: readonly Wish[]; readonly gpus: MarketGpu[] }

const relaxationsMax = 10

/**
 * The smallest changes that would place the task: of one wish each; where none of those helps, of two at once, then of three.
 * Prices and VRAM change only as far as the first GPU asks for it, and, as a second offer, as far as half of those who ask for
 * no more than that. The most GPUs first.
 */
export function relaxationsOf(survey: Survey): Relaxation[] {
  const near = nearOf(survey)
  for (const count of [1, 2, 3]) {
    const found = near.filter(({ wishes }) => wishes.length === count).flatMap((one) => giveUp(one, near, survey))
    if (found.length > 0) return found.sort((a, b) => b.gpus - a.gpus).slice(0, relaxationsMax)
  }
  return []
}

/** Those that would fit if the renter gave something up; by what that is. */
function nearOf({ wanted, rejected }: Survey): Near[] {
  return rejected.flatMap(({ codes, gpus }) => {
    const wishes = codes.map((code) => wishOfCode[code])
    if (wishes.includes(undefined)) return []
    const near = wishes.includes('vram') ? gpus.filter((gpu) => !isTooSmallForModel(wanted, gpu)) : gpus
    return near.length === 0 ? [] : [{ wishes: (wishes as Wish[]).sort(), gpus: near }]
  })
}

const isTooSmallForModel = ({ model }: Wanted, gpu: MarketGpu) => (model?.vram_gb ?? 0) > gpu.vramGb

type Asked = Pick<Survey, 'wanted' | 'nowMs'>

/** Gives up exactly these wishes. */
function giveUp({ wishes, gpus }: Near, near: readonly Near[], { wanted, nowMs }: Asked): Relaxation[] {
  const needNoOther = near.filter((one) => one.wishes.every((wish) => wishes.includes(wish)))
  return limitsFor(wishes, gpus).map((limits) => {
    const placed = needNoOther.flatMap((one) =>
      one.gpus.filter((gpu) => gpu.priceMicrosPerHour <= limits.priceMicrosPerHour && gpu.vramGb >= limits.vramGb),
    )
    return relaxation(wishes, { wanted, nowMs, limits, placed })
  })
}

type Limits = { readonly priceMicrosPerHour: number; readonly vramGb: number }

/** How far prices and VRAM have to go: for the first of the GPUs, and for half of them. */
function limitsFor(wishes: readonly Wish[], gpus: readonly MarketGpu[]): Limits[] {
  const isPriced = wishes.includes('price')
  const isSized = wishes.includes('vram')
  if (!isPriced && !isSized) return [{ priceMicrosPerHour: Infinity, vramGb: 0 }]
  const ordered = [...gpus].sort((a, b) =>
    isPriced ? a.priceMicrosPerHour - b.priceMicrosPerHour || b.vramGb - a.vramGb : b.vramGb - a.vramGb,
  )
  const limitsOf = (one: MarketGpu): Limits => ({
    priceMicrosPerHour: isPriced ? one.priceMicrosPerHour : Infinity,
    vramGb: isSized ? one.vramGb : 0,
  })
  const first = limitsOf(ordered[0]!)
  const half = limitsOf(ordered[Math.floor((ordered.length - 1) / 2)]!)
  const isFarther = half.priceMicrosPerHour > first.priceMicrosPerHour || half.vramGb < first.vramGb
  return isFarther ? [first, half] : [first]
}

type Placing = Asked & { readonly limits: Limits; readonly placed: readonly MarketGpu[] }

function relaxation(wishes: readonly Wish[], { wanted, nowMs, limits, placed }: Placing): Relaxation {
  const requirements: Requirements = { ...wanted.requirements }
  let maxPriceMicrosPerHour = wanted.maxPriceMicrosPerHour
  const words = wishes.map((wish): string => {
    const { gpu_model, region, min_vram_gb = 0 } = wanted.requirements
    switch (wish) {
      case 'price': {
        const difference = micros(limits.priceMicrosPerHour - wanted.maxPriceMicrosPerHour!)
        maxPriceMicrosPerHour = micros(limits.priceMicrosPerHour)
        return `+${formatOrb(difference)} ORB an hour`
      }
      case 'vram':
        requirements.min_vram_gb = limits.vramGb
        return `${Math.round((min_vram_gb - limits.vramGb) * 100) / 100} GiB less VRAM`
      case 'model':
        delete requirements.gpu_model
        return `any GPU instead of ${gpu_model}`
      case 'region':
        delete requirements.region
        return `any region instead of ${region}`
      case 'kind':
        delete requirements.kinds
        return 'any kind of device'
      case 'gpu':
        delete requirements.gpu_id
        return 'any GPU instead of this one'
      case 'cores':
        delete requirements.min_cpu_cores
        return 'any number of processor cores'
      case 'ram':
        delete requirements.min_ram_gb
        return 'any amount of memory in its machine'
      case 'storage':
        delete requirements.min_storage_gb
        return 'any amount of free disk'
    }
  })
  const relaxed: Wanted = { ...wanted, requirements, maxPriceMicrosPerHour }
  return {
    requirements,
    maxPriceMicrosPerHour,
    message: words.join(' and '),
    gpus: placed.length,
    free: countFree(relaxed, placed, nowMs),
  }
}

/** One sentence of the best, or nothing: "It could run with +0.04 ORB an hour (12 GPUs), or any region instead of eu (9 GPUs)." */
export function relaxationSentence(relaxations: readonly Pick<Relaxation, 'message' | 'gpus'>[]): string {
  if (relaxations.length === 0) return ''
  const offers = relaxations.slice(0, 3).map(({ message, gpus }) => `${message} (${gpus} GPU${gpus === 1 ? '' : 's'})`)
  return ` It could run with ${offers.join(', or ')}.`
}
