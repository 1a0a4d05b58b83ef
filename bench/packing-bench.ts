import { type Figure, mean, say, table } from './figures.ts'
import { type Outcome, runExperiment } from './packing-experiment.ts'
import { policies } from './packing-policies.ts'
import { readTrace } from './packing-trace.ts'

export function runPacking(options: Record<string, string>): Figure[] {
  const { nodes, pods, policy, mix } = options as Record<'nodes' | 'pods' | 'policy' | 'mix', string>
  const chosen = policy === 'all' ? Object.keys(policies) : [policy]
  const unknown = chosen.find((name) => !(name in policies))
  if (unknown !== undefined) throw new Error(`there is no policy ${unknown}: ${Object.keys(policies).join(', ')}, all`)
  if (mix !== 'given' && mix !== 'learnt') throw new Error(`--mix is given or learnt, not ${mix}`)
  const trace = readTrace(nodes, pods)
  say(
    `${trace.machines.length} machines, ${trace.totalMilli / 1_000} GPUs; ${trace.pods.length} pods of ${trace.classes.length} shapes\n`,
  )

  const rows = [['policy', 'seeds', 'at 100 %', 'at 130 %', 'from', 'to', 'dropped', 'seconds']]
  let last: Outcome[] = []
  for (const name of chosen as (keyof typeof policies)[]) {
    const startMs = performance.now()
    last = seedsOf(options).map((seed) => runExperiment(trace, policies[name], { seed, mix }))
    rows.push([name, ...rowOf(last, (performance.now() - startMs) / 1_000)])
  }
  say(table(rows))
  return [
    { figure: 'packing.at_100', value: mean(last.map(({ at100 }) => at100)), unit: '%' },
    { figure: 'packing.at_130', value: mean(last.map(({ at130 }) => at130)), unit: '%' },
  ]
}

function seedsOf(options: Record<string, string>): number[] {
  const [count, first] = [Number(options['seeds']), Number(options['first-seed'])]
  if (!Number.isInteger(count) || count < 1)
    throw new Error(`--seeds is a whole number from 1, not ${options['seeds']}`)
  return Array.from({ length: count }, (_, index) => first + index)
}

function rowOf(outcomes: readonly Outcome[], seconds: number): string[] {
  const ends = outcomes.map(({ at130 }) => at130)
  const numbers = [mean(outcomes.map(({ at100 }) => at100)), mean(ends), Math.min(...ends), Math.max(...ends)]
  return [
    String(outcomes.length),
    ...numbers.map((number) => number.toFixed(2)),
    mean(outcomes.map(({ dropped }) => dropped)).toFixed(0),
    seconds.toFixed(1),
  ]
}
