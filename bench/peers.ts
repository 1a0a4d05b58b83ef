import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { chown, mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { npmCommand } from '../scripts/npm.mjs'
import { repository } from '../scripts/stamps.mjs'
import { say } from './figures.ts'

/** A durable queue that is measured beside the market: empty jobs, added one at a time and completed. */
export type Peer = {
  readonly name: string
  /** What the market's rate is divided by this one's for. */
  readonly figure: string
  /** How many a second. */
  run(): Promise<number>
  stop(): Promise<void>
}
type Server = { readonly port: number; stop(): Promise<void> }

const programsFolder = join(repository, 'bench/peers')
const run = promisify(execFile)

/** Those whose server is installed on this machine; says which are not. */
export async function startPeers(folder: string = tmpdir()): Promise<Peer[]> {
  const hasRedis = spawnSync('redis-server', ['--version']).status === 0
  const postgres = postgresFolder()
  if (!hasRedis) say('BullMQ is not measured: redis-server is not installed.')
  if (!postgres) say('graphile-worker is not measured: PostgreSQL is not installed.')
  if (!hasRedis && !postgres) return []
  if (!existsSync(join(programsFolder, 'node_modules'))) await install()
  return [
    ...(hasRedis ? [await bullmq(folder, 'always'), await bullmq(folder, 'everysec')] : []),
    ...(postgres ? [await graphileWorker(folder, postgres)] : []),
  ]
}

async function install() {
  say('Installing the packages of bench/peers …')
  const npm = npmCommand(['ci', '--no-audit', '--no-fund', '--loglevel=error'])
  await run(npm.file, npm.arguments, { ...npm.options, cwd: programsFolder })
}

async function bullmq(folder: string, fsync: 'always' | 'everysec'): Promise<Peer> {
  const server = await startRedis(folder, fsync)
  const options = { port: server.port, jobs: 20_000, inFlight: 200, concurrency: 50 }
  return {
    name: `BullMQ, appendfsync ${fsync}`,
    figure: fsync === 'always' ? 'tasks.ratio_bullmq' : 'tasks.ratio_bullmq_everysec',
    run: () => perSecond('bullmq.mjs', options),
    stop: server.stop,
  }
}

async function graphileWorker(folder: string, binaries: string): Promise<Peer> {
  const server = await startPostgres(folder, binaries)
  const connectionString = `postgres://bench@127.0.0.1:${server.port}/postgres`
  const options = { connectionString, jobs: 4_000, inFlight: 20, concurrency: 50 }
  return {
    name: 'graphile-worker, added singly',
    figure: 'tasks.ratio_graphile_worker',
    run: () => perSecond('graphile-worker.mjs', options),
    stop: server.stop,
  }
}

/** The program prints how many seconds its jobs took. */
async function perSecond(program: string, options: { jobs: number }): Promise<number> {
  const { stdout } = await run(process.execPath, [join(programsFolder, program), JSON.stringify(options)])
  return options.jobs / Number(stdout)
}

async function startRedis(folder: string, fsync: string): Promise<Server> {
  const own = await mkdtemp(join(folder, 'orbyte-bench-redis-'))
  const port = await freePort()
  const where = ['--port', String(port), '--bind', '127.0.0.1', '--dir', own]
  return startServer('redis-server', [...where, '--save', '', '--appendonly', 'yes', '--appendfsync', fsync], {
    port,
    own,
  })
}

async function startPostgres(folder: string, binaries: string): Promise<Server> {
  const own = await mkdtemp(join(folder, 'orbyte-bench-postgres-'))
  const port = await freePort()
  const as = await postgresUser(own)
  const data = join(own, 'data')
  await run(join(binaries, 'initdb'), ['-D', data, '-U', 'bench', '-A', 'trust'], as)
  const where = ['-D', data, '-p', String(port), '-h', '127.0.0.1', '-k', own]
  return startServer(join(binaries, 'postgres'), where, { port, own, ...as })
}

/** PostgreSQL does not run as root: then it runs as its own user, who is given the folder. */
async function postgresUser(own: string): Promise<{ uid?: number; gid?: number }> {
  if (userInfo().uid !== 0) return {}
  const idOf = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  const [uid, gid] = [await idOf('-u'), await idOf('-g')]
  await chown(own, uid, gid)
  return { uid, gid }
}

function postgresFolder(): string | null {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).map((version) => join(debian, version, 'bin')) : []
  const configured = spawnSync('pg_config', ['--bindir'], { encoding: 'utf8' })
  if (configured.status === 0) versions.push(configured.stdout.trim())
  return versions.find((folder) => existsSync(join(folder, 'initdb'))) ?? null
}

type Start = { port: number; own: string; uid?: number; gid?: number }

async function startServer(file: string, given: string[], { port, own, ...as }: Start): Promise<Server> {
  const child = spawn(file, given, { stdio: 'ignore', cwd: own, ...as })
  const ended = once(child, 'exit')
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`${file} has ended with ${child.exitCode}`)
    await sleep(50)
  }
  return {
    port,
    async stop() {
      child.kill('SIGINT')
      await ended
      await rm(own, { recursive: true, force: true })
    },
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    const end = (found: boolean) => {
      socket.destroy()
      resolve(found)
    }
    socket.once('connect', () => end(true)).once('error', () => end(false))
  })
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
