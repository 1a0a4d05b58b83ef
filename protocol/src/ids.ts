import { z } from 'zod'
import { base32Alphabet, encodeBase32 } from './base32.ts'

/**
 * Ids are a prefix that says what they name and 26 characters of Crockford base32: 48 bits of milliseconds, then 80 random
 * bits (the ULID layout, lower case). They sort by time of creation.
 */
export const idPrefixes = {
  user: 'user',
  session: 'sess',
  apiKey: 'key',
  agentToken: 'atok',
  agent: 'agent',
  gpu: 'gpu',
  task: 'task',
  attempt: 'att',
  payment: 'pay',
  dispute: 'disp',
  audit: 'audit',
  file: 'file',
} as const
export type IdKind = keyof typeof idPrefixes

/** `random`: ten bytes. */
export function makeId(kind: IdKind, timeMs: number, random: Uint8Array): string {
  let text = ''
  for (let rest = timeMs, place = 0; place < 10; place++, rest = Math.floor(rest / 32))
    text = base32Alphabet[rest % 32] + text
  return `${idPrefixes[kind]}_${text}${encodeBase32(random)}`
}

export function idOf(kind: IdKind) {
  const pattern = new RegExp(`^${idPrefixes[kind]}_[0-9a-hjkmnp-tv-z]{26}$`)
  return z.string().regex(pattern, { error: `not an id of this kind: it looks like ${idPrefixes[kind]}_01k…` })
}
