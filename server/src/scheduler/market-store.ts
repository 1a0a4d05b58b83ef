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
