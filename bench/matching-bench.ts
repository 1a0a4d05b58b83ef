import { micros, wholeMilli } from '@orbyte/protocol'
import type { MarketGpu } from '@orbyte/server/gpus/gpu-registry.ts'
import { GpuIndex } from '@orbyte/server/scheduler/gpu-index.ts'
import { GpuSearch } from '@orbyte/server/scheduler/gpu-search.ts'
import type { Wanted } from '@orbyte/server/scheduler/matching.ts'
import { relaxationsOf } from '@orbyte/server/scheduler/relaxations.ts'
import { bestOf, rejectionCounts, surveyGpus } from '@orbyte/server/scheduler/survey.ts'
import { type SeededRandom, seededRandom } from '../simulation/seeded-random.ts'
import { type Figure, median, percentile, say, table } from './figures.ts'
import { anyWanted, type Kind, marketOf } from './matching-market.ts'

const sizes = [1_000, 10_000, 100_000]
/** So much of the market is in use while it is measured. */
const usedShare = 0.7
const runsMin = 3

/** Explanations are for people: a hundred of them are enough to know how long one takes. */
const explanations = 100

type Run = {
  readonly perSecond: number
  readonly usP50: number
  readonly usP99: number
  readonly profiles: number
  readonly foundNone: number
  readonly explainMsP99: number
  /** Microseconds, the middle one. */
  readonly usByKind: Readonly<Record<Kind, number>>
}

export function runMatching(options: Record<string, string>): Figure[] {
  const runs = Math.max(runsMin, Number(options['runs']))
  const decisions = Number(options['decisions'])
  const rows = [
    [
      'GPUs',
      'profiles',
      'decisions/s',
      'p50 µs',
      'p99 µs',
      'one',
      'warm',
      'part',
      'several',
      'found none',
      'explain p99 ms',
    ],
  ]
  const results = sizes.map((size) => {
    const all = Array.from({ length: runs }, (_, seed) => measure(size, decisions, seededRandom(seed + 1, `${size}`)))
    const middle = (of: (run: Run) => number) => median(all.map(of))
    const kinds = (['one', 'warm', 'part', 'several'] as const).map((kind) =>
      middle((run) => run.usByKind[kind]).toFixed(1),
    )
    rows.push([
      String(size),
      middle(({ profiles }) => profiles).toFixed(0),
      middle(({ perSecond }) => perSecond).toFixed(0),
      middle(({ usP50 }) => usP50).toFixed(1),
      middle(({ usP99 }) => usP99).toFixed(1),
      ...kinds,
      `${(100 * middle(({ foundNone }) => foundNone)).toFixed(1)} %`,
      middle((run) => run.explainMsP99).toFixed(1),
    ])
    const explainMsP99 = middle((run) => run.explainMsP99)
    return { perSecond: middle(({ perSecond }) => perSecond), usP99: middle(({ usP99 }) => usP99), explainMsP99 }
  })
  say(`${runs} runs of ${decisions} decisions each, ${usedShare * 100} % of the GPUs in use; medians\n`)
  say(table(rows))
  return [
    { figure: 'matching.per_s_1k', value: results[0]!.perSecond, unit: '1/s' },
    { figure: 'matching.per_s_100k', value: results[2]!.perSecond, unit: '1/s' },
    { figure: 'matching.us_p99_100k', value: results[2]!.usP99, unit: 'µs' },
    { figure: 'matching.explain_ms_p99_100k', value: results[2]!.explainMsP99, unit: 'ms' },
  ]
}

export function measure(size: number, decisions: number, random: SeededRandom): Run {
  const market = new UsedMarket(marketOf(size, random))
  const wanted = Array.from({ length: 20_000 }, () => anyWanted(random))
  const next = (count: number) => wanted[count % wanted.length]!
  for (let count = 0; market.usedShare() < usedShare && count < size * 3; count++)
    market.decide(next(count).wanted, random)
  const usedGpus = market.used
  // The code is warm and the garbage of the filling gone before anything is timed.
  for (let count = 0; count < 20_000; count++) market.decide(next(count).wanted, random, usedGpus)
  const us = new Float64Array(decisions)
  let foundNone = 0
  const startMs = performance.now()
  for (let count = 0; count < decisions; count++) {
    const beforeMs = performance.now()
    if (!market.decide(next(count).wanted, random, usedGpus)) foundNone++
    us[count] = (performance.now() - beforeMs) * 1_000
  }
  const seconds = (performance.now() - startMs) / 1_000
  const ofKind = (kind: Kind) => [...us].filter((_, count) => next(count).kind === kind)
  return {
    perSecond: decisions / seconds,
    usP50: percentile([...us], 0.5),
    usP99: percentile([...us], 0.99),
    profiles: market.index.profiles.length,
    foundNone: foundNone / decisions,
    explainMsP99: measureExplaining(
      market,
      wanted.map((asked) => asked.wanted),
    ),
    usByKind: {
      one: median(ofKind('one')),
      warm: median(ofKind('warm')),
      part: median(ofKind('part')),
      several: median(ofKind('several')),
    },
  }
}

/** All that an explanation says: what fits, why the others do not, how many of each reason, and what would change it. */
function measureExplaining({ index }: UsedMarket, wanted: readonly Wanted[]): number {
  const ms = Array.from({ length: explanations }, (_, count) => {
    // Half of them ask for less than anything costs: those are who ask why nothing fits.
    const asked = wanted[count]!
    const max = count % 2 === 0 ? asked.maxPriceMicrosPerHour : micros(20_000)
    const explained: Wanted = { ...asked, gpus: 1, part: null, maxPriceMicrosPerHour: max }
    const startMs = performance.now()
    const survey = surveyGpus(explained, index, 0)
    bestOf(survey, 100)
    rejectionCounts(survey)
    relaxationsOf(survey, (other) => surveyGpus(other, index, 0))
    return performance.now() - startMs
  })
  return percentile(ms, 0.99)
}

/** GPUs by their numbers, and what was taken of each. */
type Taken = { readonly gpus: readonly number[]; readonly milliEach: number }

/** What is chosen is taken; what was taken first is given back, so that about as much stays in use. */
class UsedMarket {
  readonly index = new GpuIndex()
  readonly search = new GpuSearch(this.index)
  readonly #gpus: number
  #taken: Taken[] = []
  #given = 0
  used = 0

  constructor(gpus: readonly MarketGpu[]) {
    this.#gpus = gpus.length
    for (const gpu of gpus) this.index.put(gpu, { isThere: true, freeMilli: wholeMilli })
  }

  usedShare(): number {
    return this.used / this.#gpus
  }

  /** Finds, takes, and gives back as long as more than `usedMost` GPUs are in use. */
  decide(wanted: Wanted, random: SeededRandom, usedMost = Infinity): boolean {
    this.search.arrived(wanted)
    const choice = this.search.choose(wanted, { nowMs: performance.now(), random: random.unit })
    if (choice) {
      const taken = { gpus: choice.gpus.map(({ number }) => number), milliEach: choice.milliEach }
      this.#change(taken, -taken.milliEach)
      this.#taken.push(taken)
    }
    while (this.used > usedMost) {
      const oldest = this.#taken[this.#given++]!
      this.#change(oldest, oldest.milliEach)
    }
    if (this.#given > this.#taken.length / 2) {
      this.#taken = this.#taken.slice(this.#given)
      this.#given = 0
    }
    return choice !== null
  }

  #change({ gpus }: Taken, milli: number) {
    for (const gpu of gpus) {
      this.index.setFree(gpu, this.index.table.free[gpu]! + milli)
      this.used -= milli / wholeMilli
    }
  }
}
