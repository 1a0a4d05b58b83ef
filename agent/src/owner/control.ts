import { createHash } from 'node:crypto'
import { chmod, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import type { Agent } from '../agent.ts'
import { AgentStatus } from '../agent-status.ts'

/**
 * How an owner speaks to the agent that runs on this machine: one line of JSON there and one back, over a socket in its
 * data folder that only its owner can open.
 */
const Request = z.strictObject({
  command: z.enum(['status', 'drain', 'resume', 'reclaim', 'stop', 'stop now']),
  gpu: z.string().max(200).nullable(),
})
export type ControlCommand = z.output<typeof Request>['command']

const Reply = z.union([z.object({ status: AgentStatus }), z.object({ error: z.string() })])
const requestBytesMax = 10_000
/** A reclaim takes up to five seconds. */
const answerMsMax = 15_000
/** The longest path of a socket that every system takes. */
const socketPathBytesMax = 100

export type ControlServer = { close(): Promise<void> }

/** Listens for the owner's commands until it is closed. */
export async function serveControl(agent: Agent, dataPath: string): Promise<ControlServer> {
  const path = controlPath(dataPath)
  // Whoever has the data folder's lock is the one agent here: what lies there is of one that is gone.
  if (!path.startsWith('\\\\')) await rm(path, { force: true })
  const open = new Set<Socket>()
  const server = createServer((socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    // A command that was given up needs no answer.
    socket.on('error', () => {})
    void readLine(socket).then(async (line) => socket.end(`${JSON.stringify(await answer(agent, line))}\n`))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  if (!path.startsWith('\\\\')) await chmod(path, 0o600)
  return {
    async close() {
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Gives a command to the agent on this data folder. Resolves with its state afterwards. */
export async function askAgent(
  dataPath: string,
  command: ControlCommand,
  gpu: string | null = null,
): Promise<AgentStatus> {
  const socket = connect(controlPath(dataPath))
  socket.setTimeout(answerMsMax, () => socket.destroy(new Error('it does not answer')))
  const failed = new Promise<never>((_resolve, reject) => {
    socket.on('error', (error) => reject(new Error(noAnswer(dataPath, error))))
  })
  socket.write(`${JSON.stringify({ command, gpu })}\n`)
  const reply = Reply.parse(JSON.parse(await Promise.race([readLine(socket), failed])))
  socket.destroy()
  if ('error' in reply) throw new Error(reply.error)
  return reply.status
}

function noAnswer(dataPath: string, error: NodeJS.ErrnoException): string {
  const isGone = error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
  const what = isGone ? `No agent runs on ${dataPath}.` : `The agent on ${dataPath} cannot be asked: ${error.message}.`
  return `${what} Start one: orbyte agent start. Where it has another data folder: --data FOLDER`
}

async function answer(agent: Agent, line: string): Promise<z.input<typeof Reply>> {
  try {
    const { command, gpu } = Request.parse(JSON.parse(line))
    await obey(agent, command, gpu)
    return { status: agent.status() }
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) }
  }
}

async function obey(agent: Agent, command: ControlCommand, gpu: string | null): Promise<void> {
  switch (command) {
    case 'status':
      return
    case 'drain':
    case 'resume':
    case 'reclaim':
      return await agent[command](gpu)
    case 'stop':
      return agent.stop('drain')
    case 'stop now':
      return agent.stop('now')
  }
}

async function readLine(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('utf8')
  return await new Promise((resolve) => {
    socket.on('end', () => resolve(text))
    socket.on('data', (piece) => {
      text += String(piece)
      if (text.includes('\n') || text.length > requestBytesMax) resolve(text)
    })
  })
}

function controlPath(dataPath: string): string {
  const name = `orbyte-agent-${createHash('sha256').update(dataPath).digest('hex').slice(0, 16)}`
  if (process.platform === 'win32') return `\\\\.\\pipe\\${name}`
  const path = join(dataPath, 'agent.sock')
  return Buffer.byteLength(path) <= socketPathBytesMax ? path : join(tmpdir(), `${name}.sock`)
}
