import { micros, type Requirements } from '@orbyte/protocol'
import type { GpuIndex } from './gpu-index.ts'
import type { Wanted } from './matching.ts'
import type { RejectionCode } from './rankers.ts'
import { droppable, higherPrice, lessVram, type Relaxation, relaxationsMax } from './relaxation.ts'
import { relaxationsTried } from './relaxations-tried.ts'
import { isFree, type RejectedClass, type Survey } from './survey.ts'

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
type Near = { readonly wishes: readonly Wish[]; readonly classes: readonly RejectedClass[] }

/** The smallest changes that would place the task. `again`: what holds for whoever asks for something else. */
export function relaxationsOf(survey: Survey, again: (wanted: Wanted) => Survey): Relaxation[] {
  const { gpus, part } = survey.wanted
  return gpus === 1 && part === null ? relaxationsOfOne(survey) : relaxationsTried(survey, again)
}

/**
 * Of a task that wants one GPU: of one wish each; where none of those helps, of two at once, then of three.
 * Prices and VRAM change only as far as the first GPU asks for it, and, as a second offer, as far as half of those who ask for
 * no more than that. The most GPUs first.
 */
function relaxationsOfOne(survey: Survey): Relaxation[] {
  const near = nearOf(survey)
  for (const count of [1, 2, 3]) {
    const found = near.filter(({ wishes }) => wishes.length === count).flatMap((one) => giveUp(one, near, survey))
    if (found.length > 0) return found.sort((a, b) => b.gpus - a.gpus).slice(0, relaxationsMax)
  }
  return []
}

/** Those that would fit if the renter gave something up; by what that is. */
function nearOf({ wanted, rejected }: Survey): Near[] {
  return rejected.flatMap(({ codes, classes }) => {
    const wishes = codes.map((code) => wishOfCode[code])
    if (wishes.includes(undefined)) return []
    const near = wishes.includes('vram')
      ? classes.filter(({ usableVramGb }) => usableVramGb >= neededGb(wanted))
      : classes
    return near.length === 0 ? [] : [{ wishes: (wishes as Wish[]).sort(), classes: near }]
  })
}

/** What cannot be given up. */
const neededGb = ({ model }: Wanted) => model?.vram_gb ?? 0

/** Gives up exactly these wishes. */
function giveUp({ wishes, classes }: Near, near: readonly Near[], survey: Survey): Relaxation[] {
  const { wanted, index } = survey
  const needNoOther = near.filter((one) => one.wishes.every((wish) => wishes.includes(wish)))
  return limitsFor(wishes, classes, index).map((limits) => {
    let [gpus, free] = [0, 0]
    for (const { vramGb, numbers } of needNoOther.flatMap((one) => one.classes)) {
      if (vramGb < limits.vramGb) continue
      for (const number of numbers) {
        if (index.table.price[number]! > limits.priceMicrosPerHour) continue
        gpus++
        if (isFree(number, survey)) free++
      }
    }
    return relaxation(wishes, { wanted, limits, gpus, free })
  })
}

type Limits = { readonly priceMicrosPerHour: number; readonly vramGb: number }

/** How far prices and VRAM have to go: for the first of the GPUs, and for half of them. */
function limitsFor(wishes: readonly Wish[], classes: readonly RejectedClass[], index: GpuIndex): Limits[] {
  const isPriced = wishes.includes('price')
  const isSized = wishes.includes('vram')
  if (!isPriced && !isSized) return [{ priceMicrosPerHour: Infinity, vramGb: 0 }]
  const sorted = isPriced ? byPrice(classes, index) : byVram(classes)
  const limitsOf = ({ price, vramGb }: Sized): Limits => ({
    priceMicrosPerHour: isPriced ? price : Infinity,
    vramGb: isSized ? vramGb : 0,
  })
  const first = limitsOf(sorted(0))
  const half = limitsOf(sorted(0.5))
  const isFarther = half.priceMicrosPerHour > first.priceMicrosPerHour || half.vramGb < first.vramGb
  return isFarther ? [first, half] : [first]
}

type Sized = { readonly price: number; readonly vramGb: number }

/** The one that so many of them, from 0 to 1, come before, the cheapest first, of equals the largest. */
function byPrice(classes: readonly RejectedClass[], { table }: GpuIndex): (share: number) => Sized {
  const largestFirst = [...classes].sort((a, b) => b.vramGb - a.vramGb)
  const prices = new Float64Array(classes.reduce((sum, { numbers }) => sum + numbers.length, 0))
  let filled = 0
  for (const { numbers } of classes) for (const number of numbers) prices[filled++] = table.price[number]!
  return (share) => {
    const place = Math.floor((prices.length - 1) * share)
    const price = selectAt(place, prices)
    let before = place
    for (const each of prices) if (each < price) before--
    for (const { vramGb, numbers } of largestFirst)
      for (const number of numbers) if (table.price[number] === price && before-- === 0) return { price, vramGb }
    throw new Error(`no GPU costs ${price}`)
  }
}

/** The number that would have this place if they were sorted, without sorting them; they are moved about (Hoare's selection). */
function selectAt(place: number, numbers: Float64Array): number {
  let low = 0
  let high = numbers.length - 1
  while (low < high) {
    const pivot = numbers[(low + high) >> 1]!
    let [from, to] = [low, high]
    while (from <= to) {
      while (numbers[from]! < pivot) from++
      while (numbers[to]! > pivot) to--
      if (from > to) break
      const larger = numbers[from]!
      numbers[from++] = numbers[to]!
      numbers[to--] = larger
    }
    if (place <= to) high = to
    else if (place >= from) low = from
    else break
  }
  return numbers[place]!
}

/** The same, the largest first. */
function byVram(classes: readonly RejectedClass[]): (share: number) => Sized {
  const sorted = [...classes].sort((a, b) => b.vramGb - a.vramGb)
  const count = sorted.reduce((sum, { numbers }) => sum + numbers.length, 0)
  return (share) => {
    let before = Math.floor((count - 1) * share)
    const found = sorted.find(({ numbers }) => (before -= numbers.length) < 0)!
    return { price: 0, vramGb: found.vramGb }
  }
}

type Placing = { readonly wanted: Wanted; readonly limits: Limits; readonly gpus: number; readonly free: number }

function relaxation(wishes: readonly Wish[], { wanted, limits, gpus, free }: Placing): Relaxation {
  const requirements: Requirements = { ...wanted.requirements }
  let maxPriceMicrosPerHour = wanted.maxPriceMicrosPerHour
  const words = wishes.map((wish): string => {
    const { min_vram_gb = 0 } = wanted.requirements
    switch (wish) {
      case 'price': {
        maxPriceMicrosPerHour = micros(limits.priceMicrosPerHour)
        return higherPrice(wanted.maxPriceMicrosPerHour!, limits.priceMicrosPerHour)
      }
      case 'vram':
        requirements.min_vram_gb = limits.vramGb
        return lessVram(min_vram_gb, limits.vramGb)
      default: {
        const { field, says } = droppable[wish]
        delete requirements[field]
        return says(wanted.requirements)
      }
    }
  })
  return { requirements, maxPriceMicrosPerHour, message: words.join(' and '), gpus, free }
}

/** One sentence of the best, or nothing: "It could run with +0.04 ORB an hour (12 GPUs), or any region instead of eu (9 GPUs)." */
export function relaxationSentence(relaxations: readonly Pick<Relaxation, 'message' | 'gpus'>[]): string {
  if (relaxations.length === 0) return ''
  const offers = relaxations.slice(0, 3).map(({ message, gpus }) => `${message} (${gpus} GPU${gpus === 1 ? '' : 's'})`)
  return ` It could run with ${offers.join(', or ')}.`
}
