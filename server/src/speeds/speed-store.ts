import type { TaskType } from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'
import type { Speed } from './speed-estimate.ts'

export type SpeedKey = { readonly gpuId: string; readonly model: string; readonly taskType: TaskType }
type SpeedRow = Row & {
  gpu_id: string
  model: string
  task_type: TaskType
  attempts: number
  work: number
  run_ms: number
  recent_work: number
  recent_run_ms: number
}

function speedOf(row: SpeedRow): Speed {
  return {
    attempts: row.attempts,
    work: row.work,
    runMs: row.run_ms,
    recentWork: row.recent_work,
    recentRunMs: row.recent_run_ms,
  }
}

const columns = 'gpu_id, model, task_type, attempts, work, run_ms, recent_work, recent_run_ms'

/** Of the GPUs that are still there. */
export async function readSpeeds(reader: Reader): Promise<(SpeedKey & { speed: Speed })[]> {
  const rows = await reader.all<SpeedRow>(
    `SELECT ${columns} FROM gpu_speeds WHERE gpu_id IN (SELECT id FROM gpus WHERE deleted_at IS NULL)`,
  )
  return rows.map((row) => ({ gpuId: row.gpu_id, model: row.model, taskType: row.task_type, speed: speedOf(row) }))
}

export async function readSpeed(reader: Reader, key: SpeedKey): Promise<Speed | undefined> {
  const row = await reader.get<SpeedRow>(
    `SELECT ${columns} FROM gpu_speeds WHERE gpu_id = ? AND model = ? AND task_type = ?`,
    ...[key.gpuId, key.model, key.taskType],
  )
  return row && speedOf(row)
}

export async function putSpeed(tx: Transaction, key: SpeedKey, { speed, at }: { speed: Speed; at: string }) {
  await tx.run(
    `INSERT INTO gpu_speeds (${columns}, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET attempts = excluded.attempts, work = excluded.work, run_ms = excluded.run_ms,
       recent_work = excluded.recent_work, recent_run_ms = excluded.recent_run_ms, updated_at = excluded.updated_at`,
    ...[key.gpuId, key.model, key.taskType, speed.attempts, speed.work, speed.runMs],
    ...[speed.recentWork, speed.recentRunMs, at],
  )
}
