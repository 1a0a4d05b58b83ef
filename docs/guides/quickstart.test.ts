import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type api, microsPerOrb, type OutputOf, parseOrb, verifyReceipt } from '@orbyte/protocol'
import { createClient, logIn } from '@orbyte/sdk'

// The guide is run as a reader would run it: a market and an agent as processes of their own, and bash.

const guide = readFileSync(new URL('quickstart.md', import.meta.url), 'utf8')
const script = [...guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block!).join('\n')

const folder = mkdtempSync(join(tmpdir(), 'orbyte-quickstart-'))
const children: ChildProcess[] = []
/** A guide that hangs is ended, so that its output tells where. */
const guideMsMax = 120_000
let url: string
let run: { code: number | null; stdout: string; stderr: string }

beforeAll(async () => {
  installCommand()
  url = await startMarket()
  run = await runGuide()
}, 180_000)

afterAll(async () => {
  await Promise.all(children.map(end))
  rmSync(folder, { recursive: true })
})

test('every command of the guide succeeds', () => {
  expect(run).toMatchObject({ code: 0 })
})

test('the task is completed, and its text and its events were shown', async () => {
  const alice = await logInAs('alice@example.org', 'another long password')
  const { items } = await alice.tasks.list()
  expect(items).toMatchObject([{ status: 'completed', task_type: 'text_generation' }])
  const output = await alice.tasks.output({ task_id: items[0]!.id })
  expect(output.length).toBeGreaterThan(20)
  expect(run.stdout).toContain(output)
  for (const event of ['task.queued', 'attempt.ready', 'output.appended', 'payment.settled', 'task.completed'])
    expect(run.stdout).toContain(`event: ${event}\n`)
})

test('what the renter paid is what the provider has', async () => {
  const alice = await logInAs('alice@example.org', 'another long password')
  const bob = await logInAs('bob@example.org', 'a long password')
  const [payment] = (await alice.payments.sent()).items
  expect(payment).toMatchObject({ status: 'completed', fee: '0' })
  const cost = parseOrb(payment!.amount)
  expect(cost).toBeGreaterThan(0)
  expect(parseOrb((await alice.wallet.get()).balance)).toBe(10 * microsPerOrb - cost)
  expect(await alice.wallet.get()).toMatchObject({ held: '0' })
  expect(await bob.wallet.get()).toMatchObject({ balance: payment!.amount })
  expect(await alice.ledger.head()).toMatchObject({ sum: '0' })
})

test('the receipt that was saved verifies with the market’s key', async () => {
  const receipt = JSON.parse(readFileSync(join(folder, 'receipt.json'), 'utf8')) as OutputOf<
    typeof api.payments.receipt
  >
  const { public_key } = await createClient({ url }).ledger.head()
  expect(await verifyReceipt(receipt, public_key)).toEqual({ ok: true })
  expect(run.stdout).toContain('This receipt holds.')
})

async function logInAs(email: string, password: string) {
  const client = createClient({ url })
  await logIn(client, { email, password })
  return client
}

/** Puts `orbyte` on the path, run from source. */
function installCommand() {
  const main = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url))
  const tsx = import.meta.resolve('tsx')
  const path = join(folder, 'orbyte')
  writeFileSync(path, `#!/bin/sh\nexec "${process.execPath}" --import "${tsx}" "${main}" "$@"\n`)
  chmodSync(path, 0o755)
}

async function startMarket(): Promise<string> {
  const market = start(join(folder, 'orbyte'), ['serve', '--port', '0', '--database', join(folder, 'orbyte.db')])
  const errors = text(market.stderr!)
  for await (const line of createInterface({ input: market.stdout! })) {
    const found = /a market at (http:\S+?),/.exec(line)
    if (!found) continue
    market.stdout!.resume()
    return found[1]!
  }
  throw new Error(`the market did not start: ${await errors}`)
}

async function runGuide(): Promise<typeof run> {
  const bash = start('bash', ['-euo', 'pipefail', '-c', script], { timeout: guideMsMax })
  const [[code], stdout, stderr] = await Promise.all([
    once(bash, 'exit') as Promise<[number | null]>,
    text(bash.stdout!),
    text(bash.stderr!),
  ])
  return { code, stdout, stderr }
}

/** Each in a process group of its own, so that it ends with everything that it started. */
function start(command: string, commandArguments: string[], options: { timeout?: number } = {}): ChildProcess {
  const child = spawn(command, commandArguments, {
    ...options,
    cwd: folder,
    detached: true,
    env: {
      ...environmentWithoutOrbyte(),
      PATH: [folder, process.env['PATH']].join(delimiter),
      HOME: folder,
      LOG_LEVEL: 'warn',
      ...(url !== undefined && { ORBYTE_URL: url }),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  return child
}

/** What is set for another market on this machine is not for this one. */
function environmentWithoutOrbyte(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('ORBYTE_')))
}

async function end(child: ChildProcess): Promise<void> {
  const running = child.exitCode === null && child.signalCode === null
  const ended = running ? once(child, 'exit') : null
  try {
    process.kill(-child.pid!, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
  await ended
}
