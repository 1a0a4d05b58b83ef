import { z } from 'zod'
import { Timestamp } from './endpoint.ts'
import { MarketEvent } from './events.ts'
import { Gpu } from './gpus.ts'
import { idOf } from './ids.ts'
import { Wallet } from './wallet.ts'

/**
 * The dialogue between whoever watches and the server: JSON messages over one WebSocket at `/api/live`, opened by the watcher.
 * It carries what the event streams of the API carry, and the states that change too often to be events.
 *
 *   server   welcome         the version, and how long it is silent at most
 *   watcher  authenticate    an access token or an API key; not needed for the subject `market`
 *   server   authenticated   who that is
 *   watcher  watch           a subject, under a number of its own choice
 *   server   watching        from here on it hears of the subject; or refused, and why
 *   server   event           something happened: the same events, with the same cursors, as GET /api/tasks/{task_id}/events
 *   server   gpus, wallet    how it is now. Changes that come faster than they are told are told once, as the newest
 *   server   missed          too much happened to be told from `after` on: read the lists again; it goes on from here
 *   server   done            this subject has nothing more to say
 *   watcher  unwatch         no more of this
 *   server   still_here      at least every `quiet_ms`, with how far each subject that follows the log has got
 *
 * Read what you show after `watching` has come, and nothing is lost between the two. The subjects `task`, `tasks` and `attempts`
 * follow the event log: after a reconnect, `watch` with the highest cursor that was heard as `after` goes on without a gap and
 * without a repetition. `task` without `after` starts at the beginning of the task, the others start now. `gpus` and `wallet`
 * start with the whole state, `market` with nothing: it tells of GPUs that change.
 *
 * Credentials travel in a message, never in the address, and no cookie is looked at, so that another site's page cannot open
 * this socket in a user's name. When the credential expires, or its session ends, the server hangs up with `unauthenticated`.
 * A watcher that reads too slowly costs nothing: the log is read again from where it is, states wait and are merged. One that
 * has read nothing for a long time is hung up on with `too_slow`, and may come back.
 */

const id = z.int().min(0).max(1_000_000).describe('The watcher’s number for the subject; free again once it is over.')

export const LiveSubject = z.discriminatedUnion('name', [
  z.strictObject({ name: z.literal('market') }).describe('The GPUs of the market, without telemetry. For everybody.'),
  z.strictObject({ name: z.literal('tasks') }).describe('What happens to your tasks, without output and logs.'),
  z.strictObject({ name: z.literal('task'), task_id: idOf('task') }).describe('Everything that happens to one task.'),
  z.strictObject({ name: z.literal('attempts') }).describe('What happens on your GPUs, without output and logs.'),
  z.strictObject({ name: z.literal('gpus') }).describe('Your GPUs, with telemetry.'),
  z.strictObject({ name: z.literal('wallet') }).describe('Your balance.'),
])
export type LiveSubject = z.infer<typeof LiveSubject>

export const LiveClientMessage = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('authenticate'), credential: z.string().min(1).max(4_096) }),
  z.strictObject({
    type: z.literal('watch'),
    id,
    subject: LiveSubject,
    after: z.int().nonnegative().optional().describe('The highest cursor that was heard.'),
  }),
  z.strictObject({ type: z.literal('unwatch'), id }),
])
export type LiveClientMessage = z.infer<typeof LiveClientMessage>

export const LiveServerMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('welcome'), protocol_version: z.int(), quiet_ms: z.int().positive() }),
  z.object({ type: z.literal('authenticated'), user_id: idOf('user'), at: Timestamp }),
  z.object({ type: z.literal('watching'), id, cursor: z.int().nonnegative().describe('How far the log is now.') }),
  z.object({ type: z.literal('refused'), id, code: z.string(), detail: z.string() }),
  z.object({ type: z.literal('event'), id, event: MarketEvent }),
  z.object({
    type: z.literal('gpus'),
    id,
    gpus: z.array(Gpu).describe('Those that are new or have changed, whole.'),
    removed: z.array(idOf('gpu')),
  }),
  z.object({ type: z.literal('wallet'), id, wallet: Wallet }),
  z.object({ type: z.literal('missed'), id, cursor: z.int().nonnegative().describe('From where it goes on.') }),
  z.object({ type: z.literal('done'), id }),
  z.object({
    type: z.literal('still_here'),
    cursors: z
      .array(z.object({ id, cursor: z.int().nonnegative() }))
      .describe('Everything of the subject up to the cursor has been told.'),
  }),
])
export type LiveServerMessage = z.output<typeof LiveServerMessage>
/** As it is on the wire: amounts are decimal strings. */
export type LiveServerMessageWire = z.input<typeof LiveServerMessage>
