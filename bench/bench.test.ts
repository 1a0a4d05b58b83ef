import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { benches } from './benches.ts'
import { median, percentile, round, table } from './figures.ts'

const bench = (...args: string[]) =>
  spawnSync(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('bench.ts', import.meta.url)), ...args], {
    encoding: 'utf8',
  })

test('without a name it lists the benches; each has a help that names its options', () => {
  const list = bench()
  expect(list.status).toBe(0)
  for (const [name, { says }] of Object.entries(benches)) expect(list.stdout).toContain(`${name.padEnd(12)}${says}`)
  const help = bench('packing', '--help')
  expect(help.status).toBe(0)
  expect(help.stdout).toContain('--policy')
})

test('what was asked wrongly is refused with what there is', () => {
  const unknown = bench('nothing')
  expect([unknown.status, unknown.stderr]).toEqual([2, expect.stringContaining('There are: ')])
  const missing = bench('packing', '--nodes', 'x')
  expect([missing.status, missing.stderr]).toEqual([2, expect.stringContaining('--pods is missing')])
  const wrong = bench('packing', '--sedes', '3')
  expect([wrong.status, wrong.stderr]).toEqual([2, expect.stringContaining('--sedes')])
})

test('medians and percentiles are of the values, not between them but for the middle of an even number', () => {
  expect(median([3, 1, 2])).toBe(2)
  expect(median([4, 1, 2, 3])).toBe(2.5)
  expect(percentile([1, 2, 3, 4], 0.99)).toBe(4)
  expect(
    percentile(
      Array.from({ length: 1_000 }, (_, index) => index),
      0.99,
    ),
  ).toBe(990)
  expect(() => percentile([], 0.5)).toThrow()
})

test('figures are rounded to what they are good for, tables are aligned', () => {
  expect([round(13_715.6), round(95.8634), round(0.0123456)]).toEqual([13_716, 95.86, 0.01235])
  expect(
    table([
      ['a', 'bb'],
      ['ccc', 'd'],
    ]),
  ).toBe('a    bb\nccc   d')
})
