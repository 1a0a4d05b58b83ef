export const base32Alphabet = '0123456789abcdefghjkmnpqrstvwxyz'

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
    text += base32Alphabet[(held >> bits) & 31]
    held &= (1 << bits) - 1
  }
  return text
}
