import { z } from 'zod'
import { JsonObject, Timestamp } from './endpoint.ts'
import { idOf } from './ids.ts'

/** What happens, as a noun and a participle. One log, one cursor; SSE and the live socket are views of it. */
export const eventTypes = [
  'task.queued',
  'task.requeued',
  'task.completed',
  'task.failed',
  'task.cancelled',
  'task.refuted',
  'attempt.accepted',
  'attempt.preparing',
  'attempt.ready',
  'attempt.ended',
  'attempt.slow',
  'output.reset',
  'output.appended',
  'log.appended',
  'file.added',
  'payment.pending',
  'payment.settled',
  'payment.refunded',
  'dispute.opened',
  'dispute.decided',
  'audit.failed',
] as const
export const EventType = z.enum(eventTypes).meta({ id: 'EventType' })
export type EventType = z.infer<typeof EventType>

export const MarketEvent = z
  .object({
    cursor: z.int().positive().describe('Its place in the log.'),
    type: EventType,
    at: Timestamp,
    task_id: idOf('task').nullable(),
    attempt_id: idOf('attempt').nullable(),
    data: JsonObject.describe(
      'For output.appended: {offset, text}; log.appended: {lines}; file.added: TaskFile; endings: End and money.',
    ),
  })
  .meta({ id: 'MarketEvent' })
export type MarketEvent = z.output<typeof MarketEvent>
