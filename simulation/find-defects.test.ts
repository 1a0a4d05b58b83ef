import { expect, test } from 'vitest'
import { defects } from './defects/defects.ts'
import { findDefect } from './defects/find-defect.ts'
import { makePatchedCopy } from './defects/patched-copy.ts'

test('every planted defect applies to the product as it is', () => {
  expect(defects.length).toBeGreaterThanOrEqual(8)
  for (const defect of defects) makePatchedCopy(defect).remove()
})

test.each(['charge the time to get ready', 'double-book a GPU', 'lose a result that was not acknowledged'])(
  'the simulation finds this within three seeds: %s',
  { timeout: 120_000 },
  async (name) => {
    const { seeds, shown } = await findDefect(
      defects.find((defect) => defect.name === name)!,
      3,
    )
    expect(seeds, shown).not.toBeNull()
  },
)
