import { Queue, Worker } from 'bullmq'

/*
 * Adds empty jobs to BullMQ and completes them, in one process beside Redis, as the load and the agents of the market are one
 * process beside it:
 *
 *   node bullmq.mjs '{"port":6379,"jobs":20000,"inFlight":200,"concurrency":50}'
 *
 * Prints the seconds from the first add to the last completion.
 */
const { port, jobs, inFlight, concurrency } = JSON.parse(process.argv[2])
const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null }
const queue = new Queue('bench', { connection, defaultJobOptions: { removeOnComplete: true } })
let completed = 0
let allCompleted = () => {}
const worker = new Worker('bench', async () => {}, { connection, concurrency })
worker.on('completed', () => ++completed === jobs && allCompleted())
await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()])

const beganMs = performance.now()
const done = new Promise((resolve) => (allCompleted = resolve))
let left = jobs
await Promise.all(
  Array.from({ length: inFlight }, async () => {
    while (left-- > 0) await queue.add('empty', {})
  }),
)
await done
console.log((performance.now() - beganMs) / 1_000)
await worker.close()
await queue.close()
