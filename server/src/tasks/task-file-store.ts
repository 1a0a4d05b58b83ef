import type { TaskFile, TaskImages } from '@orbyte/protocol'
import { placeOf, type Reader, type Row, shortOf, type Transaction } from '../db/database.ts'

/** What an attempt has produced: finished files (their bytes are in the file store) and the parts of one that is on its way. */
type FileRow = Row & Omit<TaskFile, 'url'>

/** False: the attempt has a file of this name already. */
export async function insertFile(
  tx: Transaction,
  file: Omit<TaskFile, 'url'> & { task_id: string; attempt_id: string; at: string },
): Promise<boolean> {
  const changed = await tx.run(
    `INSERT INTO task_files (task_id, attempt_id, name, mime_type, size_bytes, sha256, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT DO NOTHING`,
    ...[file.task_id, file.attempt_id, file.name, file.mime_type, file.size_bytes, file.sha256, file.at],
  )
  return changed === 1
}

export function filesOfAttempt(reader: Reader, taskId: string, attemptId: string): Promise<FileRow[]> {
  return reader.all<FileRow>(
    'SELECT name, mime_type, size_bytes, sha256 FROM task_files WHERE task_id = ? AND attempt_id = ? ORDER BY created_at, name',
    ...[taskId, attemptId],
  )
}

type TaskWithImages = Row & Omit<TaskImages, 'images'> & { attempt_id: string }

/** A renter's tasks whose current attempt has made images, newest first, from the one before the task `before` on. */
export function tasksWithImages(
  reader: Reader,
  query: { renterId: string; before: string; limit: number },
): Promise<TaskWithImages[]> {
  return reader.all<TaskWithImages>(
    `SELECT id, title, status, cost_micros AS cost, created_at, model, input_data ->> '$.prompt' AS prompt, attempt_id FROM task_states t
     WHERE task_type = 'image_generation' AND ${shortOf('renter_id')} = ${shortOf('?1')} AND renter_id = ?1
       AND row < ${placeOf('tasks', '?2')} AND EXISTS (
       SELECT 1 FROM task_files f WHERE f.task_id = t.id AND f.attempt_id = t.attempt_id AND f.mime_type LIKE 'image/%')
     ORDER BY row DESC LIMIT ?3`,
    ...[query.renterId, query.before, query.limit],
  )
}

export async function hasFile(reader: Reader, taskId: string, { attemptId, name }: FileRef): Promise<boolean> {
  const row = await reader.get(
    'SELECT 1 AS there FROM task_files WHERE task_id = ? AND attempt_id = ? AND name = ?',
    ...[taskId, attemptId, name],
  )
  return row !== undefined
}

type FileRef = { attemptId: string; name: string }

export async function insertFilePart(
  tx: Transaction,
  { attemptId, name }: FileRef,
  part: { offset: number; bytes: Uint8Array; size: number },
) {
  await tx.run(
    'INSERT INTO task_file_parts (attempt_id, name, offset, bytes, size_bytes) VALUES (?, ?, ?, ?, ?)',
    ...[attemptId, name, part.offset, part.bytes, part.size],
  )
}

/** How many bytes of the file are here, and how many it will have; null: none is here. */
export async function lengthOfFileParts(
  reader: Reader,
  { attemptId, name }: FileRef,
): Promise<{ length: number; size: number | null }> {
  const row = await reader.get<{ length: number; size: number | null }>(
    `SELECT coalesce(sum(length(bytes)), 0) AS length, max(size_bytes) AS size FROM task_file_parts
     WHERE attempt_id = ? AND name = ?`,
    ...[attemptId, name],
  )
  return row!
}

/** The files of attempts that have not ended, those on their way too: they are not whole. */
export function filesOfOpenAttempts(
  reader: Reader,
): Promise<{ attempt_id: string; name: string; size_bytes: number; is_whole: number }[]> {
  return reader.all(
    `SELECT f.attempt_id, f.name, f.size_bytes, 1 AS is_whole FROM open_attempts a
       JOIN task_files f ON f.task_id = a.task_id AND f.attempt_id = a.id
     UNION SELECT p.attempt_id, p.name, p.size_bytes, 0 AS is_whole FROM open_attempts a JOIN task_file_parts p ON p.attempt_id = a.id`,
  )
}

export async function fileParts(reader: Reader, { attemptId, name }: FileRef): Promise<Uint8Array[]> {
  const rows = await reader.all<{ bytes: Uint8Array }>(
    'SELECT bytes FROM task_file_parts WHERE attempt_id = ? AND name = ? ORDER BY offset',
    ...[attemptId, name],
  )
  return rows.map(({ bytes }) => bytes)
}

export async function deleteFileParts(tx: Transaction, { attemptId, name }: FileRef) {
  await tx.run('DELETE FROM task_file_parts WHERE attempt_id = ? AND name = ?', attemptId, name)
}

/** Of all its files that are not whole. */
export async function deletePartsOf(tx: Transaction, attemptId: string) {
  await tx.run('DELETE FROM task_file_parts WHERE attempt_id = ?', attemptId)
}

/** Removes what is known of a task's files. Returns their hashes. */
export async function deleteFilesOfTask(tx: Transaction, taskId: string): Promise<string[]> {
  const rows = await tx.all<{ sha256: string }>('SELECT DISTINCT sha256 FROM task_files WHERE task_id = ?', taskId)
  await tx.run('DELETE FROM task_files WHERE task_id = ?', taskId)
  return rows.map(({ sha256 }) => sha256)
}

/** Whether any task has a file of this hash. */
export async function isFileUsed(reader: Reader, sha256: string): Promise<boolean> {
  return (await reader.get('SELECT 1 AS used FROM task_files WHERE sha256 = ? LIMIT 1', sha256)) !== undefined
}
