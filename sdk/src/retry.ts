import { OrbyteError } from './orbyte-error.ts'

export type Retry = {
  /** How often a call is sent again at most. */
  retriesMax: number
  /** Wait before the first repetition; each next one is twice as long. A random part of it is taken off. */
  firstDelayMs: number
  delayMsMax: number
}
export const defaultRetry: Retry = { retriesMax: 3, firstDelayMs: 250, delayMsMax: 10_000 }

/** Sends again what may be sent again, while the failure is of a kind that passes. */
export async function withRetries<T>(
  send: () => Promise<T>,
  { retry, repeatable, signal }: { retry: Retry; repeatable: boolean; signal: AbortSignal | undefined },
): Promise<T> {
  for (let retries = 0; ; retries++) {
    try {
      return await send()
    } catch (error) {
      if (!repeatable || retries >= retry.retriesMax || !passes(error)) throw error
      const askedMs = retryAfterMs(error)
      if (askedMs > retry.delayMsMax) throw error
      await delay(Math.max(askedMs, backoffMs(retry, retries)), signal)
    }
  }
}

function passes(error: unknown): boolean {
  return error instanceof OrbyteError && ['unreachable', 'unavailable', 'rate_limited'].includes(error.code)
}

function retryAfterMs(error: unknown): number {
  const seconds = error instanceof OrbyteError ? error.details.retry_after_s : undefined
  return typeof seconds === 'number' ? seconds * 1_000 : 0
}

/** Between a half and the whole of the doubled delay, so that many clients do not come back at once. */
export function backoffMs(retry: Pick<Retry, 'firstDelayMs' | 'delayMsMax'>, retries: number): number {
  return Math.min(retry.delayMsMax, retry.firstDelayMs * 2 ** retries) * (0.5 + Math.random() / 2)
}

/** Rejects with the signal's reason when it aborts. */
export function delay(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error)
    const abort = () => {
      clearTimeout(timer)
      reject(signal!.reason as Error)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort)
      resolve()
    }, delayMs)
    signal?.addEventListener('abort', abort, { once: true })
  })
}
