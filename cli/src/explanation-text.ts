import { type api, oneLine, type OutputOf } from '@orbyte/protocol'
import type { Cli } from './cli.ts'
import { count, duration, hardware, orb } from './format.ts'
import { details, table } from './table.ts'

type Explanation = OutputOf<typeof api.tasks.explain>
type Relaxation = Explanation['relaxations'][number]

/** Why a task waits, what would change it, and what each GPU says to it. */
export function explanationText({ terminal }: Cli, explained: Explanation): string {
  const { message, status, code, fitting, free, relaxations, expected_wait, expected_cost, offers } = explained
  const wait =
    expected_wait && expectation(expected_wait.ms === null ? null : duration(expected_wait.ms), expected_wait)
  const facts = details([
    ['Status', `${status} (${code})`],
    ['Fit', `${count(fitting, 'GPU')}, ${free} free`],
    ['Wait', wait],
    ['Cost', expectation(orb(expected_cost.amount), expected_cost)],
  ])
  const columns = [
    { title: 'GPU', value: ({ name }: Offer) => name, shrinks: true },
    { title: 'hardware', value: (offer: Offer) => hardware(offer), shrinks: true },
    { title: 'price/h', value: ({ price_per_hour }: Offer) => price_per_hour, right: true },
    { title: 'what it says', value: ({ rejection }: Offer) => rejection?.message ?? 'free: it fits', shrinks: true },
  ]
  return [
    oneLine(message),
    '',
    facts,
    ...(relaxations.length > 0 ? ['', 'More GPUs would fit with:', ...relaxations.map(relaxationLine)] : []),
    ...(offers.length > 0 ? ['', table(offers, columns, terminal.tableStyle)] : []),
  ].join('\n')
}
type Offer = Explanation['offers'][number]

const expectation = (value: string | null, { basis }: { basis: string }) =>
  value === null ? `unknown: ${basis}` : `about ${value}: ${basis}`

export function relaxationLine({ message, gpus, free }: Relaxation): string {
  return `  ${oneLine(message)}: ${count(gpus, 'GPU')}, ${free} free`
}
