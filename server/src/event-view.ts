import type { EventType, MarketEvent } from '@orbyte/protocol'
import type { StoredEvent } from './event-store.ts'

/** What a task produces comes in many small pieces, and only whoever looks at the task wants it. */
export const isProduce = (type: EventType) => type === 'output.appended' || type === 'log.appended'

/** What a user is told of an event. */
export function viewEvent({ cursor, type, at, task_id, attempt_id, data }: StoredEvent): MarketEvent {
  return { cursor, type, at, task_id, attempt_id, data }
}
