import type { AttemptStatus } from '@orbyte/protocol'

/** How far an attempt is by what its agent has reported, kept or on its way to the disk. */
export type Reported = { status: AttemptStatus; outputLength: number; logLines: number }

/** Something that was reported before could not be kept, so that this cannot be either. All of it is to be said again. */
export class NotKeptError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'NotKeptError'
  }
}
