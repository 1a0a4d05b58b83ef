import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { agentProtocolVersion, type AgentMessage, type ServerMessage, type ServerMessageOf } from '@orbyte/protocol'
import { type WebSocket, WebSocketServer } from 'ws'
import { answer } from './remote.ts'

/*
 * The messages of a task, with nothing behind them: Node's HTTP server and ws answer each submission, hand it to whichever agent
 * is free, and acknowledge what agents say. Nobody is authenticated, nothing is checked, matched, paid or kept. What a market in
 * one thread does beside this is what its tasks cost; it cannot be faster than this.
 */

/** `reply`: the market's to a submission. */
export type BareProcess = { start(options: { reply: string }): Promise<{ url: string }> }

type Input = ServerMessageOf<'attempt.start'>['input']
type Submission = { input_data: Input }

const ready: WebSocket[] = []
const waiting: { id: string; input: Input }[] = []
let submitted = 0

async function start({ reply }: { reply: string }) {
  const task = JSON.parse(reply) as Record<string, unknown>
  const http = createServer((request, response) => void answerSubmission(request, response, task))
  new WebSocketServer({ server: http, perMessageDeflate: false }).on('connection', greet)
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${(http.address() as AddressInfo).port}` }
}

async function answerSubmission(request: IncomingMessage, response: ServerResponse, task: Record<string, unknown>) {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece as Buffer)
  const body = JSON.parse(Buffer.concat(pieces).toString()) as Submission | { tasks: Submission[] }
  const take = ({ input_data: input }: Submission) => {
    const id = `task_${String(++submitted).padStart(26, '0')}`
    waiting.push({ id, input })
    return { ...task, id }
  }
  const text = JSON.stringify('tasks' in body ? { tasks: body.tasks.map(take) } : take(body))
  response.writeHead(201, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  response.end(text)
  handOut()
}

function greet(socket: WebSocket) {
  send(socket, { type: 'challenge', protocol_version: agentProtocolVersion, nonce: 'none' })
  socket.on('error', () => socket.terminate())
  socket.on('message', (data) => {
    const message = JSON.parse((data as Buffer).toString()) as AgentMessage
    if (message.type === 'hello') welcome(socket)
    if (message.type === 'attempt.ready' || message.type === 'attempt.result')
      send(socket, { type: 'ack', seq: message.seq })
    if (message.type !== 'hello' && message.type !== 'attempt.result') return
    ready.push(socket)
    handOut()
  })
}

function welcome(socket: WebSocket) {
  const none = { gpus: [], refused_devices: [], attempts: [], acked_seq: 0 }
  send(socket, { type: 'welcome', agent_id: 'agent_none', heartbeat_ms: 60_000, ...none })
}

function handOut() {
  while (ready.length > 0 && waiting.length > 0) {
    const { id, input } = waiting.pop()!
    send(ready.shift()!, {
      type: 'attempt.start',
      attempt_id: id.replace('task', 'attempt'),
      fencing_token: '0123456789abcdef0123456789abcdef',
      task_id: id,
      devices: [{ uuid: 'EMULATED-bench', milli: 1_000, vram_mib: null }],
      task_type: 'other',
      input,
      model: null,
      duration_ms_max: 60_000,
      deadline_in_ms: 60_000,
      output_bytes_max: 1_000_000,
    })
  }
}

function send(socket: WebSocket, message: ServerMessage) {
  socket.send(JSON.stringify(message))
}

answer({ start } satisfies BareProcess, { onEnd: async () => {} })
