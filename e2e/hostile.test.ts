import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { behaviours, tableOf } from './hostile-table.ts'

test.each(behaviours.map((one) => ({ ...one, name: one.behaviour.name })))(
  'an agent that $name',
  async ({ behaviour, expected }) => {
    expect(await behaviour.run()).toEqual(expected)
  },
)

test('the guide shows what comes of each', () => {
  const guide = readFileSync(fileURLToPath(new URL('../docs/guides/hostile-agents.md', import.meta.url)), 'utf8')
  const words = (text: string) => text.replaceAll(/[\s|]+|-{3,}/g, ' ').trim()
  const table = tableOf(behaviours.map(({ behaviour, expected }) => ({ behaviour, facts: expected })))
  expect(words(guide)).toContain(words(table))
})
