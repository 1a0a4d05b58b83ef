import { expect, test } from 'vitest'
import { runWorld } from './world.ts'

test('a few worlds full of trouble break no promise', { timeout: 120_000 }, async () => {
  const kinds = new Set<string>()
  for (let seed = 1; seed <= 12; seed++) {
    const { violations, faults } = await runWorld({ seed, hours: 12 })
    expect(violations, `seed ${seed}`).toEqual([])
    for (const kind of faults.keys()) kinds.add(kind)
  }
  expect(kinds.size).toBe(29)
})

test('the same seed is the same world, to the last line of its trace', { timeout: 60_000 }, async () => {
  const [once, again, other] = [
    await runWorld({ seed: 7, hours: 6 }),
    await runWorld({ seed: 7, hours: 6 }),
    await runWorld({ seed: 8, hours: 6 }),
  ]
  expect(once.steps).toBeGreaterThan(1_000)
  expect([again.steps, again.traceHash]).toEqual([once.steps, once.traceHash])
  expect(other.traceHash).not.toBe(once.traceHash)
})

test('hundreds of machines fit into a world', { timeout: 60_000 }, async () => {
  const world = await runWorld({ seed: 49, hours: 4 })
  expect(world.machines).toBeGreaterThanOrEqual(100)
  expect(world.violations).toEqual([])
})
