import { z } from 'zod'

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

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'

/** `random`: ten bytes. */
export function makeId(kind: IdKind, timeMs: number, random: Uint8Array): string {
  let text = ''
  for (let rest = timeMs, place = 0; place < 10; place++, rest = Math.floor(rest / 32))
    text = alphabet[rest % 32] + text
  return `${idPrefixes[kind]}_${text}${encodeBase32(random)}`
}

/** Crockford base32, lower case, most significant bits first. Ten bytes are sixteen characters. */
export function encodeBase32(bytes: Uint8Array): string {
  let text = ''
  for (let bits = 0, held = 0, at = 0; at < bytes.length || bits > 0;) {
    if (bits < 5 && at < bytes.length) {
      held = (held << 8) | bytes[at++]!
      bits += 8
    } else if (bits < 5) {
      held <<= 5 - bits
      bits = 5
    }
    bits -= 5
    text += alphabet[(held >> bits) & 31]
    held &= (1 << bits) - 1
  }
  return text
}

export function idOf(kind: IdKind) {
  const pattern = new RegExp(`^${idPrefixes[kind]}_[0-9a-hjkmnp-tv-z]{26}$`)
  return z.string().regex(pattern, { error: `not an id of this kind: it looks like ${idPrefixes[kind]}_01k…` })
}
