import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { cancelReason } from './cancel-reason.ts'
import { AttemptError, type AttemptReport, type Executor } from './executor.ts'

const DurationMs = z.int().min(0).max(86_400_000)

/** What the fake executor obeys. All of it is optional: with nothing said, it succeeds at once. */
export const FakeInput = z.strictObject({
  prepare_ms: DurationMs.default(0).describe('Time before it is ready.'),
  sleep_ms: DurationMs.default(0).describe('Time that the work takes, from ready to the end.'),
  output: z.string().max(1_000_000).default('').describe('Text that it puts out.'),
  chunks: z.int().min(1).max(10_000).default(1).describe('In how many pieces the text comes, evenly over sleep_ms.'),
  log: z.array(z.string()).max(10_000).default([]).describe('Log lines, all at the start.'),
  files: z
    .array(z.strictObject({ name: z.string(), mime_type: z.string().default('text/plain'), text: z.string() }))
    .max(100)
    .default([])
    .describe('Files that it produces at the end.'),
  fail: z
    .enum(['out_of_memory', 'crash', 'renter_error'])
    .optional()
    .describe('How it fails when sleep_ms are over; with "crash" it fails before.'),
  exit_code: z.int().min(0).max(255).default(0).describe('Other than 0: the work itself fails, which is the renter’s.'),
  ignore_cancel: z
    .boolean()
    .default(false)
    .describe('Goes on to its end when it is cancelled, as a hung program does.'),
})
export type FakeInput = z.output<typeof FakeInput>

/** Obeys its input, so that every course of an attempt can be shown without any engine. For development and tests only. */
export function createFakeExecutor({ clock }: { readonly clock: Clock }): Executor {
  return {
    name: 'fake',
    taskTypes: ['other'],
    modelFormats: null,
    several: true,
    shares: true,
    check: async () => null,
    async run({ input }, report, signal) {
      signal.throwIfAborted()
      const orders = parseOrders(input)
      try {
        return await obey(orders, { clock, report, signal: orders.ignore_cancel ? undefined : signal })
      } catch (error) {
        throw signal.aborted ? cancelReason(signal) : error
      }
    },
    close: async () => {},
  }
}

type Surroundings = { readonly clock: Clock; readonly report: AttemptReport; readonly signal: AbortSignal | undefined }

async function obey(orders: FakeInput, { clock, report, signal }: Surroundings): Promise<Record<string, unknown>> {
  if (orders.prepare_ms > 0) {
    report.preparing('load', 0)
    await clock.sleep(orders.prepare_ms, signal)
    report.preparing('load', 1)
  }
  report.ready()
  report.log('This is the fake executor: nothing is computed.')
  orders.log.forEach((line) => report.log(line))
  if (orders.fail === 'crash')
    throw new AttemptError('engine_crashed', 'The fake engine crashed, as asked.', 'provider')

  for (const piece of piecesOf(orders)) {
    await clock.sleep(orders.sleep_ms / orders.chunks, signal)
    if (piece !== '') report.output(piece)
  }
  signal?.throwIfAborted()
  failAsAsked(orders)
  for (const { name, mime_type, text } of orders.files) {
    report.file({ name, mimeType: mime_type, bytes: new TextEncoder().encode(text) })
  }
  return { fake: true, text: orders.output, exit_code: 0 }
}

function failAsAsked({ fail, exit_code }: FakeInput): void {
  if (fail === 'out_of_memory') {
    throw new AttemptError('out_of_memory', 'The fake device has no memory left, as asked.', 'provider')
  }
  if (fail === 'renter_error') throw new AttemptError('renter_error', 'The work itself failed, as asked.', 'renter')
  if (exit_code !== 0)
    throw new AttemptError('exit_code', `The work ended with exit code ${exit_code}, as asked.`, 'renter')
}

function piecesOf({ output, chunks }: FakeInput): string[] {
  const edge = (index: number) => Math.floor((index * output.length) / chunks)
  return Array.from({ length: chunks }, (_, index) => output.slice(edge(index), edge(index + 1)))
}

function parseOrders(input: Record<string, unknown>): FakeInput {
  const parsed = FakeInput.safeParse(input)
  if (parsed.success) return parsed.data
  throw new AttemptError(
    'invalid_input',
    `The fake executor cannot obey this: ${z.prettifyError(parsed.error)}`,
    'renter',
  )
}
