import { setTimeout as sleep } from 'node:timers/promises'
import { type HttpConnection, openHttpConnection } from './http-connection.ts'
import { createLightAgent, type LightAgent } from './light-agent.ts'
import { answer } from './remote.ts'
import { median, percentile } from './figures.ts'

/*
 * The other side of the market in one process: agents, and renters who submit. One clock for both, so that the time from a
 * submission to its arrival at an agent can be told.
 */

export type ConnectOptions = { url: string; tokens: string[]; agentsPerToken: number; firstNumber: number }
export type SubmitOptions = { url: string; keys: string[]; connections: number; tasks: number; batch: number }
export type OpenOptions = { url: string; keys: string[]; connections: number; perS: number; seconds: number }
/** In milliseconds. */
export type Latency = { p50: number; p99: number }
/** Until the task arrives at an agent, and until it is settled. */
export type Latencies = { start: Latency; settled: Latency }
export type LoadProcess = {
  /** Resolves once all agents have been let in. */
  connect(options: ConnectOptions): Promise<{ seconds: number }>
  /** To be asked before the market goes. Resolves once it is back and all agents have been let in again. */
  reconnected(): Promise<{ seconds: number }>
  /** Submits as fast as replies come, and resolves once all is settled. */
  submit(options: SubmitOptions): Promise<{ seconds: number }>
  /** One task at a time, each when the one before has been settled and a moment has passed. */
  oneByOne(options: { url: string; key: string; tasks: number }): Promise<Latencies>
  /** Submits at a rate, whatever the market does. Times count from when a task was due. */
  atRate(options: OpenOptions): Promise<Latencies>
  usage(): { cpuUs: number }
}

const agents: LightAgent[] = []
let startMs: number[] = []
let settledMs: number[] = []
let connected = 0
let settled = 0
/** Called with each change of these two. */
let look = () => {}

/** Resolves once it is so. */
function until(isSo: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    look = () => isSo() && resolve()
    look()
  })
}

const secondsSince = (ms: number) => (performance.now() - ms) / 1_000

/** Until all connections of a rate are open, and the market has done with that. */
const openingMs = 1_000
/** As many handshakes at a time as a market allows strangers. */
const handshakesMax = 200
/** Machines behind one address. */
const agentsPerAddress = 50

async function connect({ url, tokens, agentsPerToken, firstNumber }: ConnectOptions) {
  const beganMs = performance.now()
  const before = connected
  for (let made = 0; made < tokens.length * agentsPerToken; made++) {
    const number = firstNumber + made
    const place = Math.floor(number / agentsPerAddress)
    const agent = createLightAgent({
      url,
      token: tokens[Math.floor(made / agentsPerToken)]!,
      number,
      localAddress: `127.1.${Math.floor(place / 250)}.${(place % 250) + 1}`,
      onStart: (sentMs) => void startMs.push(performance.now() - sentMs),
      onSettled(sentMs) {
        settledMs.push(performance.now() - sentMs)
        settled++
        look()
      },
      onWelcome() {
        connected++
        look()
      },
      onLost() {
        connected--
        look()
      },
    })
    agents.push(agent)
    agent.open()
    await until(() => connected - before > made - handshakesMax)
  }
  await until(() => connected === agents.length)
  return { seconds: secondsSince(beganMs) }
}

async function reconnected() {
  await until(() => connected < agents.length)
  const lostMs = performance.now()
  await until(() => connected === agents.length)
  return { seconds: secondsSince(lostMs) }
}

const newTask = (sentMs: number) =>
  `{"task_type":"other","input_data":{"sent_ms":${sentMs}},"max_duration_ms":60000,"max_price_per_hour":"3.6"}`

async function submitOne(connection: HttpConnection, key: string, sentMs = performance.now()) {
  const { status, body } = await connection.post('/api/tasks/', { key, body: newTask(sentMs) })
  if (status !== 201) throw new Error(`a task was answered with ${status}: ${body}`)
}

async function submitBatch(connection: HttpConnection, key: string, size: number) {
  const tasks = Array.from({ length: size }, () => newTask(performance.now())).join(',')
  const { status, body } = await connection.post('/api/tasks/batch', { key, body: `{"tasks":[${tasks}]}` })
  if (status !== 201) throw new Error(`a batch was answered with ${status}: ${body}`)
}

function forget() {
  startMs = []
  settledMs = []
  settled = 0
}

const latencies = (): Latencies => ({ start: latencyOf(startMs), settled: latencyOf(settledMs) })

async function submit({ url, keys, connections, tasks, batch }: SubmitOptions) {
  const open = Array.from({ length: connections }, () => openHttpConnection(url))
  const requests = Math.ceil(tasks / batch)
  forget()
  let left = requests
  const beganMs = performance.now()
  const sent = open.map(async (connection, index) => {
    const key = keys[index % keys.length]!
    while (left-- > 0) await (batch === 1 ? submitOne(connection, key) : submitBatch(connection, key, batch))
  })
  await Promise.all([...sent, until(() => settled === requests * batch)])
  for (const connection of open) connection.close()
  return { seconds: secondsSince(beganMs) }
}

async function oneByOne({ url, key, tasks }: { url: string; key: string; tasks: number }) {
  const connection = openHttpConnection(url)
  forget()
  for (let count = 1; count <= tasks; count++) {
    await Promise.all([submitOne(connection, key), until(() => settled === count)])
    await sleep(5 + Math.random() * 10)
  }
  connection.close()
  return latencies()
}

async function atRate({ url, keys, connections, perS, seconds }: OpenOptions) {
  const free = Array.from({ length: connections }, () => openHttpConnection(url))
  // Renters keep their connections: what it takes to open hundreds at once is no part of the rate.
  await sleep(openingMs)
  const tasks = Math.round(perS * seconds)
  const due: number[] = []
  const sent: Promise<void>[] = []
  const send = async (connection: HttpConnection) => {
    for (let dueMs = due.shift(); dueMs !== undefined; dueMs = due.shift())
      await submitOne(connection, keys[sent.length % keys.length]!, dueMs)
    free.push(connection)
  }
  forget()
  const all = until(() => settled === tasks)
  const beganMs = performance.now()
  for (let made = 0; made < tasks; await sleep(1))
    for (; made < tasks && made < (performance.now() - beganMs) * (perS / 1_000); made++) {
      due.push(beganMs + made / (perS / 1_000))
      const connection = free.pop()
      if (connection) sent.push(send(connection))
    }
  await Promise.all(sent)
  await all
  for (const connection of free) connection.close()
  return latencies()
}

const latencyOf = (values: readonly number[]): Latency => ({ p50: median(values), p99: percentile(values, 0.99) })

const functions: LoadProcess = {
  connect,
  reconnected,
  submit,
  oneByOne,
  atRate,
  usage() {
    const { user, system } = process.cpuUsage()
    return { cpuUs: user + system }
  },
}

answer(functions, {
  async onEnd() {
    for (const agent of agents) agent.close()
  },
})
