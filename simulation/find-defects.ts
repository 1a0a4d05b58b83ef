import { defects } from './defects/defects.ts'
import { findDefect } from './defects/find-defect.ts'

/*
 * Whether the simulation finds what it should: each planted defect, and how many seeds it takes.
 *
 *   npx tsx simulation/find-defects.ts [MOST-SEEDS]
 */
const seedsMax = Number(process.argv[2] ?? 30)
let missed = 0
process.stdout.write('| defect | seeds until found | how it shows |\n| --- | --- | --- |\n')
for (const defect of defects) {
  const { seeds, shown } = await findDefect(defect, seedsMax)
  if (seeds === null) missed++
  process.stdout.write(`| ${defect.name} | ${seeds ?? `not in ${seedsMax}`} | ${shown.slice(0, 110)} |\n`)
}
process.exitCode = missed === 0 ? 0 : 1
