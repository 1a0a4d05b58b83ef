import { Worker } from 'node:worker_threads'
import type { DatabaseSyncInstance } from '@photostructure/sqlite'
import { isInDoubt } from './sqlite-errors.ts'

/** Carries a log over into its file, on a connection and in a thread of its own. */
export type CheckpointThread = {
  /** All that is committed when it begins. Rejects with SQLite's error, or where the thread has ended. */
  carryOver(): Promise<void>
  hasEnded(): boolean
  close(): Promise<void>
}

/** When the log is carried over. */
export type Checkpoints = {
  /** To be told after each commit. */
  committed(): void
  /** Runs while nobody carries the log over, nor begins to: the file stays as it is. */
  without<T>(work: () => Promise<T>): Promise<T>
  /** Lets one that runs end, and begins no more. */
  close(): Promise<void>
}

export type CheckpointOptions = {
  thread: CheckpointThread
  /** Runs while no commit does. */
  exclusively: <T>(work: () => Promise<T>) => Promise<T>
  /** By so much the log grows before it is carried over again. */
  logBytesMax: number
  onDoubt: (error: unknown) => void
}

type Exclusively = CheckpointOptions['exclusively']

/** Without a thread: the connection carries the log over, within commits. */
export function checkpointsOfConnection(sqlite: DatabaseSyncInstance, exclusively: Exclusively): Checkpoints {
  const everyFrames = (frames: number) => exclusively(async () => sqlite.exec(`PRAGMA wal_autocheckpoint=${frames}`))
  return {
    committed: () => {},
    async without(work) {
      const before = sqlite.prepare('PRAGMA wal_autocheckpoint').get() as { wal_autocheckpoint: number }
      await everyFrames(0)
      try {
        return await work()
      } finally {
        await everyFrames(before.wal_autocheckpoint)
      }
    },
    close: async () => {},
  }
}

/** While commits go on. What comes meanwhile is less each time, and so is what they wait for in the end. */
const passesBeside = 2

/**
 * A checkpoint writes some thousand pages and waits for the disk twice: within a commit, that is ten or twenty milliseconds in which
 * a market does nothing else. Here another thread does it while commits go on. Only then, when little is left, commits wait for its
 * last pass, so that the log holds nothing any more that the file does not, and SQLite begins it anew. Where there is no such thread
 * any more, the connection carries the log over within commits.
 */
export function createCheckpoints(sqlite: DatabaseSyncInstance, options: CheckpointOptions): Checkpoints {
  const { thread, exclusively, onDoubt } = options
  const ofConnection = checkpointsOfConnection(sqlite, exclusively)
  const { page_size } = sqlite.prepare('PRAGMA page_size').get() as { page_size: number }
  const framesMax = Math.ceil(options.logBytesMax / page_size)
  const look = sqlite.prepare('PRAGMA wal_checkpoint(NOOP)')
  const framesNow = () => (look.get() as { log: number }).log
  let running: Promise<void> | null = null
  let holds = 0
  /** How long the log was after the last one. If it could not begin anew, it may grow by as much again before the next try. */
  let framesBefore = 0

  async function carryOver() {
    try {
      for (let pass = 0; pass < passesBeside; pass++) await thread.carryOver()
      await exclusively(() => thread.carryOver())
    } catch (error) {
      // A disk that is full, for example: the log is kept, and keeps all.
      if (isInDoubt(error)) onDoubt(error)
    } finally {
      framesBefore = framesNow()
      running = null
      if (thread.hasEnded()) leaveToConnection()
    }
  }

  function leaveToConnection() {
    holds++
    sqlite.exec(`PRAGMA wal_autocheckpoint=${framesMax}`)
  }

  return {
    committed() {
      if (running || holds > 0) return
      const frames = framesNow()
      if (frames < framesBefore) framesBefore = 0
      if (frames - framesBefore >= framesMax) running = carryOver()
    },
    async without(work) {
      holds++
      try {
        await running
        return await ofConnection.without(work)
      } finally {
        holds--
      }
    },
    async close() {
      holds++
      await running
      await thread.close()
    },
  }
}

type Answer = { error?: { message: string; errcode?: number } }

/**
 * Text, because it has to run from the source, from a bundle and in tests alike. A process may end in the middle of it: that is why
 * the checkpoint is executed and not read, since the driver would abort the process where it has to bring back a row then.
 */
const program = `
  const { parentPort, workerData } = require('node:worker_threads')
  import(workerData.driver).then(({ DatabaseSync }) => {
    const sqlite = new DatabaseSync(workerData.path)
    sqlite.exec('PRAGMA busy_timeout=0; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; SELECT count(*) FROM sqlite_master')
    parentPort.on('message', (isLast) => {
      if (isLast) {
        sqlite.close()
        return parentPort.close()
      }
      try {
        sqlite.exec('PRAGMA wal_checkpoint(PASSIVE)')
        parentPort.postMessage({})
      } catch ({ message, errcode }) {
        parentPort.postMessage({ error: { message, errcode } })
      }
    })
  })`

/** Of the database in this file, which a connection has open. */
export function startCheckpointThread(path: string): CheckpointThread {
  const driver = import.meta.resolve('@photostructure/sqlite')
  const worker = new Worker(program, { eval: true, execArgv: [], workerData: { path, driver } })
  const waiting: { resolve: () => void; reject: (error: Error) => void }[] = []
  let ended: Error | null = null
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  const end = (error: Error) => {
    ended ??= error
    for (const { reject } of waiting.splice(0)) reject(ended)
  }
  worker.on('error', end).on('exit', () => end(new Error('the thread that carries the log over has ended')))
  worker.on('message', ({ error }: Answer) => {
    const { resolve, reject } = waiting.shift()!
    if (waiting.length === 0) worker.unref()
    if (error) reject(Object.assign(new Error(error.message), error))
    else resolve()
  })
  // A program that is done does not wait for it, unless it is waited for.
  worker.unref()
  return {
    hasEnded: () => ended !== null,
    carryOver() {
      if (ended) return Promise.reject(ended)
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject })
        worker.ref()
        worker.postMessage(false)
      })
    },
    async close() {
      if (!ended) worker.postMessage(true)
      worker.ref()
      await exited
    },
  }
}
