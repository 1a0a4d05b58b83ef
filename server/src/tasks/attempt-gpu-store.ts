import type { AttemptGpu } from '@orbyte/protocol'
import type { Reader, Transaction } from '../db/database.ts'

/** What an attempt has of a GPU: stored only where that is not one whole GPU, which the attempt itself names. */
export type StoredAttemptGpu = Omit<AttemptGpu, 'gpu_name'>

const columns = 's.attempt_id, s.gpu_id, s.milli, s.vram_gb, s.price_micros_per_hour AS price_per_hour'

export async function insertGpus(
  tx: Transaction,
  attempt: { id: string; task_id: string },
  gpus: readonly StoredAttemptGpu[],
) {
  for (const [place, { gpu_id, milli, vram_gb, price_per_hour }] of gpus.entries())
    await tx.run(
      `INSERT INTO attempt_gpus (attempt_id, place, task_id, gpu_id, milli, vram_gb, price_micros_per_hour) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      ...[attempt.id, place, attempt.task_id, gpu_id, milli, vram_gb, price_per_hour],
    )
}

/** By attempt, of those that have not ended. */
export async function gpusOfOpenAttempts(reader: Reader): Promise<Map<string, StoredAttemptGpu[]>> {
  return byAttempt(
    await reader.all<StoredAttemptGpu & { attempt_id: string }>(
      `SELECT ${columns} FROM open_attempts o JOIN attempt_gpus s ON s.attempt_id = o.id ORDER BY s.attempt_id, s.place`,
    ),
  )
}

/** By attempt, of these. */
export async function gpusOfAttempts(reader: Reader, ids: readonly string[]): Promise<Map<string, AttemptGpu[]>> {
  return byAttempt(
    await reader.all<AttemptGpu & { attempt_id: string }>(
      `SELECT ${columns}, coalesce(g.name, s.gpu_id) AS gpu_name FROM attempt_gpus s LEFT JOIN gpus g ON g.id = s.gpu_id
       WHERE s.attempt_id IN (SELECT value FROM json_each(?)) ORDER BY s.attempt_id, s.place`,
      JSON.stringify(ids),
    ),
  )
}

function byAttempt<Of>(rows: readonly (Of & { attempt_id: string })[]): Map<string, Of[]> {
  const gpus = new Map<string, Of[]>()
  for (const row of rows) gpus.set(row.attempt_id, [...(gpus.get(row.attempt_id) ?? []), row])
  return gpus
}
