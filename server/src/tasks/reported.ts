import type { AttemptStatus } from '@orbyte/protocol'

/** How far an attempt is by what its agent has reported, kept or on its way to the disk. `hasFiles`: a part of one, at least. */
export type Reported = { status: AttemptStatus; outputLength: number; logLines: number; hasFiles: boolean }

/** Something that was reported before could not be kept, so that this cannot be either. All of it is to be said again. */
export class NotKeptError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'NotKeptError'
  }
}
