import { type Micros, micros } from '@orbyte/protocol'
import type { Reader } from '../db/database.ts'
import { type EarningRow, earningsOfOne, earningsOfSeveral } from './payment-store.ts'
import { splitByPrice } from './pricing.ts'

export type Earning = Omit<EarningRow, 'amount'> & { readonly amount: Micros }

/** What a provider's GPUs earned, by day and GPU, newest day first. What several earned together is split by their prices. */
export async function earningsOf(
  reader: Reader,
  range: { userId: string; from: string; to: string },
): Promise<Earning[]> {
  const byPayment = new Map<string, Awaited<ReturnType<typeof earningsOfSeveral>>>()
  for (const row of await earningsOfSeveral(reader, range))
    byPayment.set(row.payment_id, [...(byPayment.get(row.payment_id) ?? []), row])
  const split = [...byPayment.values()].flatMap((rows) => {
    const prices = rows.map(({ price }) => price)
    const amounts = splitByPrice(rows[0]!.amount, prices)
    return rows.map(({ day, gpu_id, gpu_name, tasks, run_ms }, index) => {
      return { day, gpu_id, gpu_name, tasks, run_ms, amount: amounts[index]! }
    })
  })
  const sums = new Map<string, EarningRow>()
  for (const row of [...(await earningsOfOne(reader, range)), ...split]) {
    const known = sums.get(`${row.day} ${row.gpu_id}`)
    if (!known) sums.set(`${row.day} ${row.gpu_id}`, { ...row })
    else for (const sum of ['tasks', 'run_ms', 'amount'] as const) known[sum] += row[sum]
  }
  return [...sums.values()]
    .map((row) => ({ ...row, amount: micros(row.amount) }))
    .sort((a, b) => (a.day === b.day ? b.amount - a.amount : a.day < b.day ? 1 : -1))
}
