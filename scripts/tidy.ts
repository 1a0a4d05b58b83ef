import { budgetReport } from './tidy/budget.ts'
import { findUntidiness, readRepository, rules } from './tidy/repository.ts'

// Holds the repository to its layering, its places and its sizes, and prints how large things are.
const files = readRepository()
const findings = findUntidiness(files, new Set(files.map(({ path }) => path)))
console.log(budgetReport(files))
for (const { text } of findings) console.error(text)
if (findings.length === 0) console.log(`tidy: ${rules.length} rules hold in ${files.length} files`)
else console.error(`tidy: ${findings.length} findings`)
process.exitCode = findings.length === 0 ? 0 : 1
