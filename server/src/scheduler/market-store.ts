import type { Reader, Transaction } from '../db/database.ts'

/** Whether new tasks and attempts are held back. One object for as long as the market runs; changed after the commit. */
export type MarketPause = { paused: boolean; reason: string | null }

export async function readPause(reader: Reader): Promise<MarketPause> {
  const row = await reader.get<{ value: string }>(`SELECT value FROM settings WHERE name = 'market_pause'`)
  return row ? (JSON.parse(row.value) as MarketPause) : { paused: false, reason: null }
}

export async function writePause(tx: Transaction, pause: MarketPause) {
  await tx.run(
    `INSERT INTO settings (name, value) VALUES ('market_pause', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
    JSON.stringify(pause),
  )
}

/** Renters who weigh other than 1 when GPUs are shared out. */
export async function readWeights(reader: Reader): Promise<{ renterId: string; weight: number }[]> {
  return reader.all<{ renterId: string; weight: number }>('SELECT user_id AS renterId, weight FROM renter_weights')
}

export async function writeWeight(tx: Transaction, renterId: string, weight: number) {
  await tx.run(
    'INSERT INTO renter_weights (user_id, weight) VALUES (?, ?) ON CONFLICT DO UPDATE SET weight = excluded.weight',
    ...[renterId, weight],
  )
}
