import { parseOrb } from '@orbyte/protocol'
import { type Command, InvalidArgumentError, Option } from 'commander'

/** How the words of a command line become values; a wrong one ends the command with a sentence. */
export function amount(text: string): string {
  const trimmed = text.replace(/\s*ORB$/i, '')
  try {
    if (parseOrb(trimmed) > 0) return trimmed
  } catch {
    // Said below.
  }
  throw new InvalidArgumentError('Write an amount in ORB above zero with at most six decimals, like 0.50.')
}

export function wholeNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('Write a whole number, like 100.')
  return Number(text)
}

export function decimal(text: string): number {
  if (!/^\d{1,12}(\.\d+)?$/.test(text)) throw new InvalidArgumentError('Write a number, like 0.7.')
  return Number(text)
}

/** "25%" → 250: thousandths, of which there are at least one and at most all. */
export function milliGpu(text: string): number {
  const milli = Number(/^(\d{1,3}(?:\.\d)?)\s?%$/.exec(text)?.[1] ?? NaN) * 10
  if (milli >= 1 && milli <= 1_000) return Math.round(milli)
  throw new InvalidArgumentError('Write a share in percent, like 25% or 12.5%.')
}

/** "on" or "off". */
export function onOff(text: string): boolean {
  if (text !== 'on' && text !== 'off') throw new InvalidArgumentError('Say "on" or "off".')
  return text === 'on'
}

const units: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** "90s", "10m", "2h", "1d" → milliseconds. */
export function durationMs(text: string): number {
  const [, digits, unit] = /^(\d{1,9}(?:\.\d+)?)(ms|s|m|min|h|d)$/.exec(text) ?? []
  if (!digits || !unit) throw new InvalidArgumentError('Write a time with its unit, like 90s, 10m or 2h.')
  return Math.round(Number(digits) * units[unit]!)
}

/** `{ minVram: 24 }` → `{ min_vram: 24 }`: flags are named after the fields of the contract. */
export function fieldsOf(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const named = Object.entries(options).map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value,
  ])
  return Object.fromEntries(named.filter(([, value]) => value !== undefined)) as Record<string, unknown>
}

/** The examples at the end of a command's help. */
export function examples(command: Command, lines: readonly string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  $ orbyte ${line}`).join('\n')}`)
}

/** For lists: one page of them, or everything. */
export function pageOptions(command: Command): Command {
  return command
    .addOption(new Option('--limit <number>', 'how many to show').argParser(wholeNumber).default(50))
    .option('--all', 'show everything, however long it is')
}
export type PageOptions = { limit: number; all?: boolean }
