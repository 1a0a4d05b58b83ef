/**
 * Money. One ORB is 1,000,000 micro-ORB. Inside the platform an amount is a whole number of micro-ORB
 * (`Micros`, a safe integer); on the wire it is a decimal string in ORB with at most six decimals ("1.25").
 * These two functions are the only place where the one becomes the other; `amounts.ts` makes codecs of them.
 */
export type Micros = number & { readonly unit: 'micro-ORB' }

export const microsPerOrb = 1_000_000
/** 9,007,199,254 ORB: the largest amount that a JavaScript integer holds exactly. */
export const microsMax = Number.MAX_SAFE_INTEGER

/** Asserts that `value` is a whole, exactly representable number of micro-ORB. */
export function micros(value: number): Micros {
  if (!Number.isSafeInteger(value)) throw new RangeError(`not a whole number of micro-ORB: ${value}`)
  return value as Micros
}

const decimalOrb = /^-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$/

/** "1.25" → 1_250_000. Throws `RangeError` on anything but a decimal in ORB with at most six decimals. */
export function parseOrb(text: string): Micros {
  if (!decimalOrb.test(text)) throw new RangeError(`not an amount in ORB: ${text}`)
  const negative = text.startsWith('-')
  const [whole = '0', fraction = ''] = (negative ? text.slice(1) : text).split('.')
  const value = Number(whole) * microsPerOrb + Number(fraction.padEnd(6, '0'))
  return micros(negative && value !== 0 ? -value : value)
}

/** 1_250_000 → "1.25". Exact; never an exponent, no trailing zeros. */
export function formatOrb(value: Micros | number): string {
  const absolute = Math.abs(micros(value))
  const whole = Math.floor(absolute / microsPerOrb)
  const fraction = String(absolute % microsPerOrb)
    .padStart(6, '0')
    .replace(/0+$/, '')
  return `${value < 0 ? '-' : ''}${whole}${fraction && `.${fraction}`}`
}
