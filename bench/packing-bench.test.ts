import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { mean } from './figures.ts'
import { runExperiment } from './packing-experiment.ts'
import { runPacking } from './packing-bench.ts'
import { policies } from './packing-policies.ts'
import { readTrace } from './packing-trace.ts'

const folder = mkdtempSync(join(tmpdir(), 'orbyte-bench-'))
afterAll(() => rmSync(folder, { recursive: true }))

function write(name: string, lines: readonly string[]): string {
  const path = join(folder, name)
  writeFileSync(path, lines.join('\n') + '\n')
  return path
}

const nodes = write('nodes.csv', [
  'sn,cpu_milli,memory_mib,gpu,model',
  ...Array.from(
    { length: 12 },
    (_, index) => `n${index},96000,262144,${index % 3 === 0 ? 2 : 8},${index % 3 === 0 ? 'T4' : 'G2'}`,
  ),
])
const kinds = [
  '8000,30000,1,1000,',
  '3000,6000,1,810,',
  '12000,40000,1,470,',
  '16000,64000,0,0,',
  '8000,9000,1,190,',
  '9000,9000,1,1000,T4',
]
const pods = write('pods.csv', [
  'name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos',
  ...Array.from({ length: 90 }, (_, index) => `p${index},${kinds[index % kinds.length]},LS`),
])
const trace = readTrace(nodes, pods)

test('a trace is read as machines, and as pods in classes of the same shape', () => {
  expect(trace.machines).toHaveLength(12)
  expect(trace.totalMilli).toBe(72_000)
  expect(trace.pods).toHaveLength(90)
  expect(trace.classes.map(({ weight }) => weight)).toEqual(Array(6).fill(15))
  expect(trace.classes[5]!.runsOn).toEqual(new Set(['T4']))
})

test('a column that is missing and a cell that is no number are named', () => {
  const without = write('without.csv', ['name,cpu_milli', 'p,1'])
  expect(() => readTrace(nodes, without)).toThrow('no column memory_mib, num_gpu, gpu_milli, gpu_spec')
  const odd = write('odd.csv', ['cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec', '1,2,many,1000,'])
  expect(() => readTrace(nodes, odd)).toThrow('odd.csv:2: num_gpu is "many"')
})

const names = Object.keys(policies) as (keyof typeof policies)[]

test.for(names)('%s gives out no more than there is, and at the end no less than before', (name) => {
  const { at100, at130 } = runExperiment(trace, policies[name], { seed: 1, mix: 'given' })
  expect(at100).toBeGreaterThan(50)
  expect(at130).toBeGreaterThanOrEqual(at100)
  expect(at130).toBeLessThanOrEqual(100)
})

test('the same seed gives the same outcome, and what learns the mix does better than chance', () => {
  const once = runExperiment(trace, policies.orbyte, { seed: 3, mix: 'learnt' })
  expect(runExperiment(trace, policies.orbyte, { seed: 3, mix: 'learnt' })).toEqual(once)
  const meanOf = (name: keyof typeof policies) =>
    mean([1, 2, 3, 4, 5].map((seed) => runExperiment(trace, policies[name], { seed, mix: 'learnt' }).at130))
  expect(meanOf('orbyte')).toBeGreaterThan(meanOf('random') + 5)
})

test('the figures are the means of the policy that was asked for', () => {
  const options = { nodes, pods, policy: 'fgd', seeds: '3', 'first-seed': '1', mix: 'given' }
  const [at100, at130] = runPacking(options)
  expect(at100!.figure).toBe('packing.at_100')
  expect(at130!.figure).toBe('packing.at_130')
  const outcomes = [1, 2, 3].map((seed) => runExperiment(trace, policies.fgd, { seed, mix: 'given' }))
  expect(at130!.value).toBeCloseTo(outcomes.reduce((sum, outcome) => sum + outcome.at130, 0) / 3)
  expect(() => runPacking({ ...options, policy: 'worst' })).toThrow('no policy worst')
})
