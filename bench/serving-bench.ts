import { defaultTiming } from '@orbyte/server/config.ts'
import { type CsvRow, readCsv } from './csv.ts'
import { type Figure, median, percentile, say, table } from './figures.ts'
import { loading, makes, modelsHeld } from './serving-gpus.ts'
import { replay, type Replay, type Request } from './serving-replay.ts'

export function runServing(options: Record<string, string>): Figure[] {
  const requests = readRequests(options['requests']!)
  const [busyShare, seeds] = [Number(options['busy']) / 100, Number(options['seeds'])]
  if (!(busyShare > 0 && busyShare < 1)) throw new Error(`--busy is a number from 1 to 99, not ${options['busy']}`)
  const warmPatienceMs =
    options['patience'] === undefined ? defaultTiming.warmPatienceMs : Number(options['patience']) * 1_000
  const compression = Number(options['compression'] ?? compressionFor(requests, busyShare))
  say(
    `${requests.length} requests for ${new Set(requests.map(({ model }) => model)).size} base models, ${compression.toFixed(1)} times faster than they came\n` +
      `GPUs: ${makes.map(([name, speed, , count]) => `${count} ${name} of speed ${speed}`).join(', ')}; each holds ${modelsHeld} models\n` +
      `loading: log-normal, median ${loading.medianSeconds} s, two thirds within a factor of ${loading.factor}\n`,
  )
  const rows = [['matcher', 'busy', 'hours', 'cold loads', 'wait p50 s', 'wait p95 s']]
  const ratios = Array.from({ length: Math.max(3, seeds) }, (_, index) => {
    const run = (isWarmthKnown: boolean) =>
      replay(requests, { isWarmthKnown, compression, warmPatienceMs, seed: index + 1 })
    const [blind, aware] = [run(false), run(true)]
    rows.push(rowOf('warmth-blind', blind), rowOf('warmth-aware', aware))
    return { cold: aware.coldLoads / blind.coldLoads, p95: p95(aware) / p95(blind) }
  })
  say(table(rows))
  return [
    { figure: 'serving.cold_loads_ratio', value: median(ratios.map(({ cold }) => cold)), unit: '' },
    { figure: 'serving.wait_p95_ratio', value: median(ratios.map(({ p95: ratio }) => ratio)), unit: '' },
  ]
}

const p95 = ({ waitSeconds }: Replay) => percentile(waitSeconds, 0.95)

function rowOf(name: string, outcome: Replay): string[] {
  return [
    name,
    `${(100 * outcome.busyShare).toFixed(1)} %`,
    outcome.hours.toFixed(2),
    String(outcome.coldLoads),
    median(outcome.waitSeconds).toFixed(1),
    p95(outcome).toFixed(1),
  ]
}

function readRequests(path: string): Request[] {
  const columns = ['gmt_create', 'exec_time_seconds', 'checkpoint_model_version_id']
  const rows = readCsv(path, columns).filter((row) => row.text('checkpoint_model_version_id') !== '')
  const startMs = rows.length === 0 ? 0 : timeOf(rows[0]!)
  return rows.map((row) => ({
    atSeconds: (timeOf(row) - startMs) / 1_000,
    runSeconds: row.number('exec_time_seconds'),
    model: row.text('checkpoint_model_version_id'),
  }))
}

function timeOf(row: CsvRow): number {
  const timeMs = Date.parse(`${row.text('gmt_create').replace(' ', 'T')}Z`)
  if (Number.isNaN(timeMs))
    throw new Error(`${row.where}: gmt_create is "${row.text('gmt_create')}" and should be a time`)
  return timeMs
}

/** With which the warmth-blind matcher keeps the GPUs busy for this share of the time, loading included. */
function compressionFor(requests: readonly Request[], busyShare: number): number {
  let [low, high] = [1, 10_000]
  while (high / low > 1.01) {
    const middle = Math.sqrt(low * high)
    const { busyShare: found } = replay(requests, {
      isWarmthKnown: false,
      compression: middle,
      warmPatienceMs: 0,
      seed: 1,
    })
    if (found < busyShare) low = middle
    else high = middle
  }
  return low
}
