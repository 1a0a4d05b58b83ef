import { type AgentMessage, isTooDeep, ServerMessage } from '@orbyte/protocol'
import type { z } from 'zod'

/** What the agent sends, as it is on the wire: amounts are decimal strings. */
export type WireAgentMessage = z.input<typeof AgentMessage>
export type WireMessageOf<T extends WireAgentMessage['type']> = Extract<WireAgentMessage, { type: T }>
export type WireDevice = WireMessageOf<'devices'>['devices'][number]
export type HeldAttempt = WireMessageOf<'hello'>['attempts'][number]

type WithoutSeq<Message> = Message extends { seq: number } ? Omit<Message, 'seq'> : never
/** A message that is sent until it is acknowledged. The outbox numbers it. */
export type ReliableMessage = WithoutSeq<WireAgentMessage>
export type ReliableMessageOf<T extends ReliableMessage['type']> = Extract<ReliableMessage, { type: T }>

/** What a server sent, or why it is nothing that an agent understands. */
export function parseServerMessage(text: string): ServerMessage | Error {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return new Error('it is no JSON')
  }
  if (isTooDeep(value)) return new Error('it is nested too deeply')
  const parsed = ServerMessage.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  return new Error(`${issue?.path.join('.') || 'type'}: ${issue?.message ?? 'not valid'}`)
}
