import { expect, test } from 'vitest'
import { defects } from './defects.ts'
import { findDefect } from './look-for-defects.ts'
import { makePatchedCopy } from './patched-copy.ts'

test('every planted defect applies to the product as it is', () => {
  expect(defects.length).toBeGreaterThanOrEqual(8)
  expect(new Set(defects.map(({ name }) => name)).size).toBe(defects.length)
  for (const defect of defects) makePatchedCopy(defect).remove()
})

test.each(['charge the time to get ready', 'double-book a GPU', 'lose a result that was not acknowledged'])(
  'the simulation finds this within three seeds: %s',
  { timeout: 120_000 },
  async (name) => {
    const defect = defects.find((one) => one.name === name)!
    const { seeds, shown } = await findDefect(defect, { seedsMax: 3, hours: 24 })
    expect(seeds, shown).not.toBeNull()
  },
)
