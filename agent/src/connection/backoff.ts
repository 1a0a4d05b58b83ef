import type { Random } from '../outside.ts'

export type Backoff = { readonly firstMs: number; readonly longestMs: number }
export const defaultBackoff: Backoff = { firstMs: 500, longestMs: 30_000 }

/** How long to wait before the nth try (from 0): doubling, with the whole of it left to chance, so that agents that lost the
 * same server do not come back in step. Never less than a tenth, so that nobody hammers. */
export function reconnectDelayMs(tries: number, random: Random, { firstMs, longestMs } = defaultBackoff): number {
  const ceilingMs = Math.min(longestMs, firstMs * 2 ** Math.min(tries, 16))
  const [high = 0, low = 0] = random.bytes(2)
  return Math.round(ceilingMs * (0.1 + (0.9 * (high * 256 + low)) / 65_535))
}
