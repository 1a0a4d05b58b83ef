import { parseArgs } from 'node:util'

/** What the command was asked to do. */
export type SimulateOptions =
  | { readonly mode: 'help' }
  | ({ readonly mode: 'seeds'; readonly first: number; readonly count: number; readonly untilBroken: boolean } & Common)
  | ({ readonly mode: 'trace'; readonly seed: number } & Common)
  | ({ readonly mode: 'defects'; readonly only: string | null; readonly seedsMax: number } & Common)
  /** One of several processes that live through seeds; the others tell it which. */
  | ({ readonly mode: 'child' } & Common)
type Common = { readonly hours: number; readonly processes: number; readonly isJson: boolean }

/** What was asked for makes no sense: the sentence says what to write instead. */
export class UsageError extends Error {}

export const simulateHelp = `
Looks for broken promises: the market and the agents, as they are, in simulated worlds full of trouble.

  npm run simulate -- [--seeds 100] [--first-seed 1] [--hours 24]     many worlds, one for each seed
  npm run simulate -- --seed 17 [--hours 24] --trace                  one of them, line by line
  npm run simulate -- --defects [--defect "NAME"] [--seeds 150]        whether planted mistakes are found, and how soon

  --seeds N         how many worlds; with --defects, how many before a mistake counts as not found (default 100; 150)
  --first-seed N    the first of them (default 1): other seeds are other worlds
  --seed N          this one only
  --hours N         how many simulated hours of trouble each has (default 24)
  --trace           prints what happens in the world of --seed
  --until-broken    stops at the first seed that breaks a promise
  --defects         plants each mistake of simulation/defects/ in a copy of the product, and looks for it
  --defect NAME     only this one
  --processes N     how many run at a time (default: as many as there are cores)
  --json            one JSON object instead of text
  --help            this

The last lines are figures, each a JSON object. The status is 1 where a promise was broken, or a mistake was not found.
A seed always gives the same world, as long as the sources are the same.
`

const options = {
  seeds: { type: 'string' },
  'first-seed': { type: 'string' },
  seed: { type: 'string' },
  hours: { type: 'string' },
  processes: { type: 'string' },
  trace: { type: 'boolean' },
  'until-broken': { type: 'boolean' },
  defects: { type: 'boolean' },
  defect: { type: 'string' },
  json: { type: 'boolean' },
  child: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const
type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values']

/** `cores`: how many processes run at a time unless it is said. Throws `UsageError`. */
export function simulateOptions(args: readonly string[], cores: number): SimulateOptions {
  const values = parse(args)
  if (values.help) return { mode: 'help' }
  const common = {
    hours: number(values, 'hours', { fallback: 24, lowest: 1, highest: 10_000 }),
    processes: number(values, 'processes', { fallback: cores, lowest: 1, highest: 1_000 }),
    isJson: values.json ?? false,
  }
  if (values.child) return { mode: 'child', ...common }
  if (values.defects || values.defect !== undefined) {
    refuse(values, ['seed', 'first-seed', 'trace', 'until-broken'], '--defects')
    const seedsMax = number(values, 'seeds', { fallback: 150, lowest: 1, highest: 1e6 })
    return { mode: 'defects', only: values.defect ?? null, seedsMax, ...common }
  }
  if (values.seed !== undefined) {
    refuse(values, ['seeds', 'first-seed'], '--seed')
    const seed = number(values, 'seed', { fallback: 1, lowest: 0, highest: 2 ** 31 })
    return values.trace
      ? { mode: 'trace', seed, ...common }
      : { mode: 'seeds', first: seed, count: 1, untilBroken: false, ...common }
  }
  if (values.trace) throw new UsageError('--trace prints one world: say which, with --seed N.')
  return {
    mode: 'seeds',
    first: number(values, 'first-seed', { fallback: 1, lowest: 0, highest: 2 ** 31 }),
    count: number(values, 'seeds', { fallback: 100, lowest: 1, highest: 1e7 }),
    untilBroken: values['until-broken'] ?? false,
    ...common,
  }
}

function parse(args: readonly string[]): Values {
  try {
    return parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('. ')[0]}. See npm run simulate -- --help.`)
  }
}

function refuse(values: Values, flags: readonly (keyof Values)[], beside: string) {
  const found = flags.find((flag) => values[flag] !== undefined)
  if (found) throw new UsageError(`--${found} has no meaning beside ${beside}. Leave one of them out.`)
}

type Range = { readonly fallback: number; readonly lowest: number; readonly highest: number }

function number(values: Values, flag: keyof Values, { fallback, lowest, highest }: Range): number {
  const text = values[flag]
  if (text === undefined) return fallback
  const value = Number(text)
  if (!Number.isInteger(value) || value < lowest || value > highest || String(text).trim() === '')
    throw new UsageError(`--${flag}: give a whole number from ${lowest} to ${highest}, not "${text}".`)
  return value
}
