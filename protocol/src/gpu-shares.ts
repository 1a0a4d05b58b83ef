import { type Micros, micros, microsMax } from './money.ts'

/** A whole GPU, in thousandths of its time (milli-GPU). */
export const wholeMilli = 1_000
/** So many GPUs of one machine a task may ask for. */
export const gpuCountMax = 8

/** A share for a person: 255 → "25.5 %". */
export const percentOf = (milli: number): string => `${milli / 10} %`

/** What an hour of so many thousandths of a GPU costs, where an hour of all of it costs `price`: rounded up to the micro-ORB. */
export function priceOfShare(price: number, milli: number): Micros {
  if (milli === wholeMilli) return micros(price)
  const exact = price * milli
  if (Number.isSafeInteger(exact)) return micros(Math.ceil(exact / wholeMilli))
  return micros(Number((BigInt(price) * BigInt(milli) + BigInt(wholeMilli - 1)) / BigInt(wholeMilli)))
}

/** What an hour of several GPUs costs. More than an amount can say costs the highest amount, which nobody has. */
export function priceTogether(prices: readonly number[]): Micros {
  return micros(
    Math.min(
      prices.reduce((sum, price) => sum + price, 0),
      microsMax,
    ),
  )
}
