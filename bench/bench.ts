import { parseArgs } from 'node:util'
import { type Bench, type BenchOption, benches } from './benches.ts'
import { round, say } from './figures.ts'

/*
 * Measures how good and how fast the market is. README.md says what each bench does and how to read it.
 *
 *   npm run bench                              which benches there are
 *   npm run bench -- NAME --help               one of them
 *   npm run bench -- NAME [options]            runs it
 *
 * The last lines are its figures, one JSON object each. Ends with status 1 where it could not run, 2 where it was asked wrongly.
 */
const [name, ...rest] = process.argv.slice(2)

if (name === undefined || name === '--help' || name === 'help') list()
else if (!(name in benches)) refuse(`There is no bench ${name}. There are: ${Object.keys(benches).join(', ')}.`)
else await runBench(name as keyof typeof benches)

function list() {
  const rows = Object.entries(benches).map(([each, { says }]) => `  ${each.padEnd(12)}${says}`)
  say(
    ['npm run bench -- NAME [options]', '', ...rows, '', 'npm run bench -- NAME --help shows its options.'].join('\n'),
  )
}

async function runBench(chosen: keyof typeof benches) {
  const { says, options, load }: Bench = benches[chosen]
  const help = { help: { type: 'boolean', says: 'Show this.' } } satisfies Record<string, BenchOption>
  const known: Record<string, BenchOption> = { ...options, ...help }
  let values
  try {
    values = parseArgs({ args: rest, options: known }).values
  } catch (error) {
    return refuse(`${(error as Error).message}\nnpm run bench -- ${chosen} --help shows its options.`)
  }
  if (values['help'] === true) return say(helpOf(chosen, says, known))
  const missing = Object.keys(known).find((option) => known[option]!.required && values[option] === undefined)
  if (missing) return refuse(`--${missing} is missing. npm run bench -- ${chosen} --help shows the options.`)
  const run = await load()
  const figures = await run(values as Record<string, string>)
  say()
  for (const { figure, value, unit } of figures) say(JSON.stringify({ figure, value: round(value), unit }))
}

function helpOf(chosen: string, says: string, options: Record<string, BenchOption>): string {
  const rows = Object.entries(options).map(([option, { type, says: text, required, ...given }]) => {
    const fallback = 'default' in given && given.default !== undefined ? ` Default: ${given.default}.` : ''
    return [`  --${option}${type === 'string' ? ' …' : ''}`, `${required ? 'Required. ' : ''}${text}${fallback}`]
  })
  const width = Math.max(...rows.map(([option]) => option!.length))
  return [
    `npm run bench -- ${chosen}`,
    says,
    '',
    ...rows.map(([option, text]) => `${option!.padEnd(width)}  ${text}`),
  ].join('\n')
}

function refuse(message: string) {
  console.error(message)
  process.exitCode = 2
}
