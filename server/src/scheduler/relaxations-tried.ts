import { type Micros, micros, percentOf, type Requirements, wholeMilli } from '@orbyte/protocol'
import { vramGbOf } from './expected-cost.ts'
import { askingFor, type Wanted } from './matching.ts'
import { droppable, higherPrice, lessVram, type Relaxation, relaxationsMax } from './relaxation.ts'
import { fittingGpus, fittingNumbers, isFree, priceAt, type Survey } from './survey.ts'

/*
 * What would place a task that wants several GPUs or a share of one. What it pays then depends on all that it asks for, and on which
 * GPUs stand together: so each change is tried.
 */

type Again = (wanted: Wanted) => Survey
type Change = { readonly wanted: Wanted; readonly message: string }
type Tried = Change & { readonly survey: Survey }
/** Changes of one wish that might help, the smallest first. `isGradual`: further ones are looked at where a smaller one helps. */
type Wish = { readonly isGradual: boolean; changes(wanted: Wanted, again: Again): Iterable<Change> }

/** Each look goes through the whole market: so many GPUs are judged in all, and no fewer looks and no more than that are taken. */
const judgedMax = 500_000
const looksMin = 8
const looksMax = 40

/** Of one wish each; where none of those helps, of two at once. The most GPUs first. */
export function relaxationsTried(survey: Survey, ask: Again): Relaxation[] {
  let looks = Math.max(looksMin, Math.min(looksMax, Math.floor(judgedMax / Math.max(1, survey.gpus))))
  const again: Again = (wanted) => (looks-- > 0 ? ask(wanted) : { ...survey, wanted, fits: 0, fitting: [] })
  const known = new Set(fittingNumbers(survey))
  const helps = (other: Survey) => fittingNumbers(other).some((number) => !known.has(number))
  const tried = (wish: Wish, { wanted, message }: Change): Tried[] => {
    const found: Tried[] = []
    for (const change of wish.changes(wanted, again)) {
      const together = {
        ...change,
        message: message && `${message} and ${change.message}`,
        survey: again(change.wanted),
      }
      if (!helps(together.survey)) continue
      found.push({ ...together, message: together.message || change.message })
      if (!wish.isGradual) break
    }
    return found
  }
  const asked = { wanted: survey.wanted, message: '' }
  let found = wishes.flatMap((wish) => tried(wish, asked))
  if (found.length === 0)
    found = wishes.flatMap((wish, index) =>
      [...wish.changes(asked.wanted, again)].flatMap((change) =>
        wishes.slice(index + 1).flatMap((other) => tried(other, change)),
      ),
    )
  return found
    .map((change) => relaxation(change, known))
    .sort((a, b) => b.gpus - a.gpus)
    .slice(0, relaxationsMax)
}

function relaxation({ wanted, message, survey }: Tried, known: ReadonlySet<number>): Relaxation {
  const more = fittingNumbers(survey).filter((number) => !known.has(number))
  const { requirements, maxPriceMicrosPerHour } = wanted
  const free = more.filter((number) => isFree(number, survey)).length
  return { requirements, maxPriceMicrosPerHour, message, gpus: more.length, free }
}

const withFields = (wanted: Wanted, fields: { [Field in keyof Requirements]?: Requirements[Field] | undefined }) => {
  const all = Object.entries({ ...wanted.requirements, ...fields }).filter(([, value]) => value !== undefined)
  return askingFor(wanted, Object.fromEntries(all), wanted.maxPriceMicrosPerHour)
}
const withPrice = (wanted: Wanted, price: Micros | null) => askingFor(wanted, wanted.requirements, price)
/** Of a share of a GPU: what all of it costs. */
const offersOf = ({ index, ...survey }: Survey) =>
  fittingNumbers(survey).map((number) => ({ price: index.table.price[number]!, gpu: index.gpu(number) }))

const drops: Wish[] = Object.values(droppable).map(({ field, says }) => ({
  isGradual: false,
  changes: (wanted) =>
    wanted.requirements[field] === undefined
      ? []
      : [{ wanted: withFields(wanted, { [field]: undefined }), message: says(wanted.requirements) }],
}))

const fewerGpus: Wish = {
  isGradual: false,
  *changes(wanted) {
    for (let gpus = wanted.gpus - 1; gpus >= 1; gpus--) {
      const fewer = withFields(wanted, { gpu_count: gpus === 1 ? undefined : gpus })
      yield { wanted: fewer, message: `${gpus} GPU${gpus === 1 ? '' : 's'} instead of ${wanted.gpus}` }
    }
  },
}

const wholeGpu: Wish = {
  isGradual: false,
  changes: (wanted) =>
    wanted.part === null
      ? []
      : [{ wanted: withFields(wanted, { gpu_milli: undefined }), message: 'a whole GPU instead of a share' }],
}

/** As little as it takes for the first GPU that has too little, or whose part of that size is too dear. */
const vramWish: Wish = {
  isGradual: false,
  *changes(wanted, again) {
    const { requirements, model, part, maxPriceMicrosPerHour: most } = wanted
    const { min_vram_gb: asked } = requirements
    if (asked === undefined) return
    const anySize = again(withFields(wanted, { min_vram_gb: part ? 0.01 : undefined }))
    const sizes = Array.from(fittingGpus(anySize), ({ vramGb, usableVramGb }) => (part ? usableVramGb : vramGb))
    const affordable =
      part === null || most === null
        ? []
        : offersOf(again(withPrice(wanted, null))).map(({ price, gpu }) => vramGbOf(affordableMilli(most, price), gpu))
    const less = [...new Set([...sizes, ...affordable].map((size) => Math.floor(size * 100) / 100))]
    for (const size of less.sort((a, b) => b - a))
      if (size < asked && size > 0 && size >= (model?.vram_gb ?? 0))
        yield {
          wanted: withFields(wanted, { min_vram_gb: size }),
          message: lessVram(asked, size),
        }
  },
}

/** As large as the price allows. */
const smallerShare: Wish = {
  isGradual: false,
  *changes(wanted, again) {
    const { part, maxPriceMicrosPerHour: most } = wanted
    if (part === null || most === null) return
    const sizes = offersOf(again(withPrice(wanted, null))).map(({ price }) => affordableMilli(most, price))
    for (const milli of [...new Set(sizes)].sort((a, b) => b - a))
      if (milli < part.milli && milli >= 1)
        yield {
          wanted: withFields(wanted, { gpu_milli: milli }),
          message: `${percentOf(milli)} of a GPU instead of ${percentOf(part.milli)}`,
        }
  },
}

const affordableMilli = (most: number, price: number) => (price === 0 ? 0 : Math.floor((most * wholeMilli) / price))

/** As far as the first GPU asks for it, and as far as half of those do that are too dear. */
const priceWish: Wish = {
  isGradual: true,
  *changes(wanted, again) {
    const { maxPriceMicrosPerHour: most } = wanted
    if (most === null) return
    const cheapest = again(withPrice(wanted, null))
    const prices = fittingNumbers(cheapest)
      .map((number) => priceAt(number, cheapest))
      .filter((price) => price > most)
      .sort((a, b) => a - b)
    const steps = new Set([prices[0], prices[(prices.length - 1) >> 1]])
    for (const price of steps)
      if (price !== undefined) yield { wanted: withPrice(wanted, micros(price)), message: higherPrice(most, price) }
  },
}

/** What a price and a share cost depends on the others: those come last. */
const wishes: readonly Wish[] = [...drops, fewerGpus, wholeGpu, vramWish, smallerShare, priceWish]
