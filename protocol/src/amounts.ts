import { z } from 'zod'
import { formatOrb, type Micros, microsMax, parseOrb } from './money.ts'

const amountHint = 'write an amount in ORB as a decimal string with at most six decimals, like "0.50"'
const text = (pattern: RegExp) => z.string({ error: amountHint }).regex(pattern, { error: amountHint })
const codec = (pattern: RegExp, lowest: number) =>
  z.codec(
    text(pattern),
    z.custom<Micros>((value) => Number.isSafeInteger(value) && (value as number) >= lowest),
    {
      decode: (value, context) => {
        try {
          return parseOrb(value)
        } catch {
          context.issues.push({ code: 'custom', message: amountHint, input: value })
          return z.NEVER
        }
      },
      encode: formatOrb,
    },
  )

/** Any amount, also negative (a change of a balance). */
export const Amount = codec(/^-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$/, -microsMax)
/** An amount of at least zero. */
export const NonNegativeAmount = codec(/^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$/, 0)
/** An amount above zero. */
export const PositiveAmount = codec(/^(?=.*[1-9])(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$/, 1)
