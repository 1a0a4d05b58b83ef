/** Another connection has the file. */
export function isBusy(error: unknown): boolean {
  return /database is locked/.test((error as Error).message)
}

/** A commit was written, and the system cannot say that it is on the disk. */
export class LogNotSyncedError extends Error {
  constructor(cause: unknown) {
    super('a commit was written, and the system cannot say that it is on the disk', { cause })
    this.name = 'LogNotSyncedError'
  }
}

/**
 * SQLITE_IOERR_FSYNC (1034), SQLITE_IOERR_DIR_FSYNC (1290): the system cannot say that what was written has reached the disk. It may
 * have, and then it shows after a restart.
 */
export function isInDoubt(error: unknown): boolean {
  if (error instanceof LogNotSyncedError) return true
  const { errcode } = (error ?? {}) as { errcode?: number }
  return errcode === 1034 || errcode === 1290
}

/** SQLITE_FULL (13), or the same from the file system: the disk took no more. */
export function isFull(error: unknown): boolean {
  const { errcode, code, message } = (error ?? {}) as { errcode?: number; code?: string; message?: string }
  if (code === 'ENOSPC' || code === 'EDQUOT') return true
  return (errcode !== undefined && (errcode & 0xff) === 13) || /database or disk is full/.test(message ?? '')
}
