import { expect, test } from 'vitest'
import { faultKinds } from './faults/fault-kinds.ts'
import { firstNewSeed } from './new-seeds.ts'
import { runWorld } from './world.ts'

const timeout = 240_000

/** Lives through worlds and fails at the first that breaks a promise. Resolves with the kinds of faults that there were. */
async function liveThrough(first: number, count: number): Promise<Set<string>> {
  const kinds = new Set<string>()
  for (let seed = first; seed < first + count; seed++) {
    const { violations, faults } = await runWorld({ seed, hours: 24 })
    expect(violations, `see it again: npm run simulate -- --seed ${seed} --trace`).toEqual([])
    for (const kind of faults.keys()) kinds.add(kind)
  }
  return kinds
}

test('a few worlds with all kinds of trouble break no promise', { timeout }, async () => {
  const kinds = await liveThrough(1, 10)
  expect(faultKinds.filter((kind) => !kinds.has(kind))).toEqual([])
})

const newSeed = firstNewSeed()
test(`nor do worlds that nobody has seen before: seeds ${newSeed} to ${newSeed + 5}`, { timeout }, async () => {
  await liveThrough(newSeed, 6)
})

test('the same seed is the same world, to the last line of its trace', { timeout }, async () => {
  const [once, again, other] = [
    await runWorld({ seed: 7, hours: 6 }),
    await runWorld({ seed: 7, hours: 6 }),
    await runWorld({ seed: 8, hours: 6 }),
  ]
  expect(once.steps).toBeGreaterThan(1_000)
  expect([again.steps, again.traceHash]).toEqual([once.steps, once.traceHash])
  expect(other.traceHash).not.toBe(once.traceHash)
})

test('hundreds of machines fit into a world', { timeout }, async () => {
  const world = await runWorld({ seed: 49, hours: 4 })
  expect(world.machines).toBeGreaterThanOrEqual(100)
  expect(world.violations).toEqual([])
})
