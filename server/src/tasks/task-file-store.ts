import type { TaskFile } from '@orbyte/protocol'
import type { Reader, Row, Transaction } from '../db/database.ts'

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

export async function hasFile(reader: Reader, { attemptId, name }: FileRef): Promise<boolean> {
  const row = await reader.get(
    'SELECT 1 AS there FROM task_files WHERE task_id = (SELECT task_id FROM attempts WHERE id = ?1) AND attempt_id = ?1 AND name = ?2',
    ...[attemptId, name],
  )
  return row !== undefined
}

type FileRef = { attemptId: string; name: string }

export async function insertFilePart(
  tx: Transaction,
  { attemptId, name }: FileRef,
  part: { offset: number; bytes: Uint8Array },
) {
  await tx.run(
    'INSERT INTO task_file_parts (attempt_id, name, offset, bytes) VALUES (?, ?, ?, ?)',
    ...[attemptId, name, part.offset, part.bytes],
  )
}

/** How many bytes of the file are here. */
export async function lengthOfFileParts(reader: Reader, { attemptId, name }: FileRef): Promise<number> {
  const row = await reader.get<{ length: number }>(
    'SELECT coalesce(sum(length(bytes)), 0) AS length FROM task_file_parts WHERE attempt_id = ? AND name = ?',
    ...[attemptId, name],
  )
  return row!.length
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

/** Removes what is known of a task's files. Returns the hashes that no other task's file has. */
export async function deleteFilesOfTask(tx: Transaction, taskId: string): Promise<string[]> {
  const rows = await tx.all<{ sha256: string }>(
    `SELECT DISTINCT sha256 FROM task_files f WHERE task_id = ?1
     AND NOT EXISTS (SELECT 1 FROM task_files o WHERE o.sha256 = f.sha256 AND o.task_id <> ?1)`,
    taskId,
  )
  await tx.run('DELETE FROM task_files WHERE task_id = ?', taskId)
  return rows.map(({ sha256 }) => sha256)
}
