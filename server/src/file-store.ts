/** Keeps files by the SHA-256 of their content, beside the database. A file is on disk before `put` resolves. */
export type FileStore = {
  put(sha256: string, bytes: Uint8Array): Promise<void>
  /** Null: not there. */
  get(sha256: string): Promise<Uint8Array | null>
  remove(sha256: string): Promise<void>
  /** The hashes of what was there when it began, in no order. */
  list(): AsyncIterable<string>
}
