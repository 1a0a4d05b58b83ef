import { isDeepStrictEqual } from 'node:util'
import { behaviours, type Outcome, tableOf } from './hostile-table.ts'

/** `npm run hostile`: every hostile agent against a real market, and a table of what came of it. */
const outcomes: Outcome[] = []
let unexpected = 0
for (const { behaviour, expected } of behaviours) {
  const facts = await behaviour.run()
  outcomes.push({ behaviour, facts })
  const isExpected = isDeepStrictEqual(facts, expected)
  if (!isExpected) unexpected++
  const verdict = isExpected
    ? 'as expected'
    : `NOT as expected: ${JSON.stringify(facts)}, not ${JSON.stringify(expected)}`
  process.stderr.write(`an agent that ${behaviour.name}: ${verdict}\n`)
}
process.stdout.write(`${tableOf(outcomes)}\n`)
process.stdout.write(`${JSON.stringify({ figure: 'hostile.behaviours', value: outcomes.length, unit: '' })}\n`)
process.stdout.write(`${JSON.stringify({ figure: 'hostile.unexpected', value: unexpected, unit: '' })}\n`)
process.exit(unexpected === 0 ? 0 : 1)
