import { createHash } from 'node:crypto'
import { encodeBase32 } from '@orbyte/protocol'
import type { Random } from '../context.ts'

/** How secrets begin, so that people, logs and scanners can tell what they have before them. */
export const secretPrefixes = { apiKey: 'orb_', agentToken: 'orbagent_', refreshToken: 'orbref_' } as const

/** 256 random bits: a plain hash of it needs no salt and no cost. */
export function makeSecret(random: Random, prefix: string): string {
  return prefix + encodeBase32(random.bytes(32))
}

/** What is stored of a secret, in hexadecimal SHA-256. */
export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}
