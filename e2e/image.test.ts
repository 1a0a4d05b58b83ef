import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { verifyReceipt } from '@orbyte/protocol'
import { createClient, logIn, runTask } from '@orbyte/sdk'
import { repository } from '../scripts/stamps.mjs'

// The container image, built and run with as few rights as compose.yaml gives it.

const dockerfile = readFileSync(join(repository, 'Dockerfile'), 'utf8')
const baseImage = /^ARG NODE_IMAGE=(\S+)$/m.exec(dockerfile)![1]!
const healthcheck = JSON.parse(/^HEALTHCHECK [^[]*CMD (\[.*\])$/m.exec(dockerfile)![1]!) as string[]

/** Docker or Podman, where it has the base image already: tests fetch no image of a hundred megabytes unasked. */
const engine = ['docker', 'podman'].find(hasBaseImage)
const needsEngine = `needs Docker or Podman with the base image: docker pull ${baseImage}`

const run = `orbyte-test-${randomUUID().slice(0, 8)}`
const few = ['--read-only', '--cap-drop=ALL', '--security-opt=no-new-privileges', '--tmpfs=/tmp']
const account = { email: 'alice@example.org', password: 'a password for tests' }

describe.skipIf(engine === undefined)(`the image${engine === undefined ? `: ${needsEngine}` : ''}`, () => {
  beforeAll(async () => {
    // Podman's own format has no place for a health check.
    await promisify(execFile)(engine!, ['build', '--tag', run, repository], {
      env: { ...process.env, BUILDAH_FORMAT: 'docker' },
      maxBuffer: 64_000_000,
    })
  }, 900_000)
  afterAll(async () => {
    await containers('rm', '--force', `${run}-market`, `${run}-agent`).catch(() => {})
    await containers('volume', 'rm', '--force', `${run}-market`, `${run}-agent`).catch(() => {})
    await containers('rmi', run).catch(() => {})
  })

  test('it is the `orbyte` command, for a user without rights, and nothing of how it was made', async () => {
    const inside = async (...words: string[]) => await containers('run', '--rm', ...few, run, ...words)
    expect(await inside('orbyte', '--help')).toContain('Usage: orbyte')
    expect(await inside('id', '--user')).toBe('1000')
    expect((await inside('ls', '-A', '/opt/orbyte')).split('\n')).toEqual([
      'LICENSE',
      'dist',
      'models',
      'node_modules',
      'package.json',
    ])
    const packages = (await inside('ls', '/opt/orbyte/node_modules')).split('\n')
    expect(packages).toContain('fastify')
    expect(packages).not.toContain('typescript')
    expect(await inside('ls', '-A', '/data')).toBe('')
  })

  test('a market and an agent run a real task; the market stops in order and goes on in another container', async () => {
    const url = await startMarket()
    const client = createClient({ url })
    await client.auth.register(account)
    await logIn(client, account)
    await client.wallet.deposit({ amount: '5' })
    const { token } = await client.agentTokens.create({ name: 'container' })
    await start(
      'agent',
      [`--network=container:${run}-market`, `--env=ORBYTE_AGENT_TOKEN=${token}`],
      [...['orbyte', 'agent', 'start', '--cpu']],
    )
    await expect.poll(freeGpus(url), { timeout: 300_000, interval: 500 }).toBe(1)

    const task = await runTask(client, {
      task_type: 'text_generation',
      input_data: { prompt: 'Once upon a time', max_tokens: 40, seed: 42 },
    })
    expect(task).toMatchObject({ status: 'completed' })
    const receipt = await client.payments.receipt({ payment_id: task.payment_id! })
    expect(await verifyReceipt(receipt)).toEqual({ ok: true })

    expect(await stop('agent')).toBe('0')
    expect(await stop('market')).toBe('0')
    const left = await containers('run', '--rm', `--volume=${run}-market:/data`, run, 'ls', '-A', '/data')
    expect(left.split('\n')).not.toContain('orbyte.db-wal')

    const again = createClient({ url: await startMarket() })
    await logIn(again, account)
    expect((await again.tasks.get({ task_id: task.id })).cost).toBe(task.cost)
    expect((await again.ledger.head()).sum).toBe('0')
    await stop('market')
  }, 600_000)

  test('its health check tells a market that answers from one that does not', async () => {
    await startMarket()
    const check = (...options: string[]) => containers('exec', ...options, `${run}-market`, ...healthcheck)
    await expect(check()).resolves.toBe('')
    await expect(check('--env=PORT=1')).rejects.toMatchObject({ code: 1 })
    await stop('market')
  })
})

/** Resolves with the market's address once it answers. */
async function startMarket(): Promise<string> {
  await start('market', ['--publish=127.0.0.1::8000'], [])
  const url = `http://${await containers('port', `${run}-market`, '8000')}`
  await expect.poll(freeGpus(url)).toBeDefined()
  return url
}

async function start(name: 'market' | 'agent', options: string[], command: string[]) {
  const volume = `--volume=${run}-${name}:/data`
  await containers('run', '--detach', '--init', `--name=${run}-${name}`, volume, ...few, ...options, run, ...command)
}

/** Resolves with the exit status. */
async function stop(name: 'market' | 'agent'): Promise<string> {
  await containers('stop', '--time=60', `${run}-${name}`)
  const status = await containers('inspect', '--format={{.State.ExitCode}}', `${run}-${name}`)
  await containers('rm', `${run}-${name}`)
  return status
}

/** Undefined while nobody answers. */
function freeGpus(url: string): () => Promise<number | undefined> {
  return () =>
    createClient({ url })
      .health.get()
      .then(
        ({ market }) => market.gpus_free,
        () => undefined,
      )
}

async function containers(...words: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(engine!, words, { maxBuffer: 64_000_000 })
  return stdout.trim()
}

function hasBaseImage(command: string): boolean {
  try {
    execFileSync(command, ['image', 'inspect', baseImage], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
