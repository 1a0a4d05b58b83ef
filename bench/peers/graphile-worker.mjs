import { makeWorkerUtils, run } from 'graphile-worker'
import pg from 'pg'

/*
 * Adds empty jobs to graphile-worker one at a time and completes them, in one process beside PostgreSQL:
 *
 *   node graphile-worker.mjs '{"connectionString":"postgres://…","jobs":5000,"inFlight":20,"concurrency":50}'
 *
 * Prints the seconds from the first add to the last completion.
 */
const { connectionString, jobs, inFlight, concurrency } = JSON.parse(process.argv[2])
const quiet = { error() {}, warning() {}, info() {}, debug() {} }
const { Logger } = await import('graphile-worker')
const logger = new Logger(() => (level, message) => level === 'error' && quiet.error(message))
const addPool = new pg.Pool({ connectionString, max: inFlight })
const utils = await makeWorkerUtils({ pgPool: addPool, logger })
await utils.migrate()

let completed = 0
let allCompleted = () => {}
const runner = await run({
  connectionString,
  concurrency,
  maxPoolSize: concurrency,
  noHandleSignals: true,
  logger,
  taskList: {
    empty: async () => {},
  },
})
runner.events.on('job:success', () => ++completed === jobs && allCompleted())

const beganMs = performance.now()
const done = new Promise((resolve) => (allCompleted = resolve))
let left = jobs
await Promise.all(
  Array.from({ length: inFlight }, async () => {
    while (left-- > 0) await utils.addJob('empty', {})
  }),
)
await done
console.log((performance.now() - beganMs) / 1_000)
await runner.stop()
await utils.release()
await addPool.end()
