import { AttemptError } from './executor.ts'

/** What a cancelled attempt is rejected with: the reason that whoever cancelled it gave, else that it was cancelled. */
export function cancelReason(signal: AbortSignal): AttemptError {
  if (signal.reason instanceof AttemptError) return signal.reason
  return new AttemptError('cancelled', 'The attempt was cancelled.', 'renter')
}
