import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Amount, NonNegativeAmount, PositiveAmount } from './amounts.ts'
import { formatOrb, micros, microsMax, microsPerOrb, parseOrb } from './money.ts'

const anyMicros = fc.integer({ min: -microsMax, max: microsMax })

test('an amount survives being written and read, exactly', () => {
  fc.assert(
    fc.property(anyMicros, (value) => {
      expect(parseOrb(formatOrb(value))).toBe(value === 0 ? 0 : value)
    }),
  )
})

test('an amount is written in one way: no exponent, no needless zeros, no minus nothing', () => {
  fc.assert(
    fc.property(anyMicros, (value) => {
      const text = formatOrb(value)
      expect(text).toMatch(/^-?(0|[1-9]\d*)(\.\d{0,5}[1-9])?$/)
      expect(text).not.toBe('-0')
      expect(text.startsWith('-')).toBe(value < 0)
    }),
  )
})

test('every text is read as an amount exactly or not at all', () => {
  const digits = fc.stringMatching(/^-?\d{0,12}(\.\d{0,8})?$/)
  fc.assert(
    fc.property(fc.oneof(digits, fc.string()), (text) => {
      let value: number
      try {
        value = parseOrb(text)
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError)
        return
      }
      // The same number, by exact arithmetic on the digits.
      const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text)!
      const exact = BigInt(whole!) * BigInt(microsPerOrb) + BigInt(fraction.padEnd(6, '0'))
      expect(BigInt(value)).toBe(sign === '-' ? -exact : exact)
    }),
  )
})

test.for([
  ['0', 0],
  ['-0', 0],
  ['1', 1_000_000],
  ['1.25', 1_250_000],
  ['0.000001', 1],
  ['-0.5', -500_000],
  ['1.100000', 1_100_000],
  ['9007199254.740991', microsMax],
] as const)('%s is %d micro-ORB', ([text, expected]) => {
  expect(parseOrb(text)).toBe(expected)
})

test.for([
  '',
  ' 1',
  '1 ',
  '+1',
  '.5',
  '1.',
  '01',
  '1,5',
  '1e3',
  '0x10',
  '0.0000001',
  'NaN',
  'Infinity',
  '--1',
  '9007199254.740992',
  '99999999999',
  '１',
])('%j is no amount', (text) => {
  expect(() => parseOrb(text)).toThrow(RangeError)
})

test('each kind of amount says what it takes', () => {
  const takes = (schema: typeof Amount) =>
    ['-1', '0', '0.000001', '1'].filter((text) => schema.safeDecode(text).success)
  expect(takes(Amount)).toEqual(['-1', '0', '0.000001', '1'])
  expect(takes(NonNegativeAmount)).toEqual(['0', '0.000001', '1'])
  expect(takes(PositiveAmount)).toEqual(['0.000001', '1'])
  expect(PositiveAmount.safeDecode('1.2345678').error!.issues[0]!.message).toContain('six decimals')
})

test('a number on the wire is no amount, and what is no whole number of micro-ORB never leaves', () => {
  expect(NonNegativeAmount.safeDecode(1 as unknown as string).success).toBe(false)
  expect(NonNegativeAmount.safeEncode(0.5 as never).success).toBe(false)
  expect(NonNegativeAmount.safeEncode(-1 as never).success).toBe(false)
  for (const value of [0.5, NaN, Infinity, microsMax + 1]) expect(() => micros(value)).toThrow(RangeError)
})
