import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseOrb, verifyReceipt } from '@orbyte/protocol'
import { type Client, createClient, download, logIn, runTask } from '@orbyte/sdk'
import { acceleratorsHere } from './demo-machine.ts'

/**
 * The whole of Orbyte once, for real: a market and an agent as processes of their own, a provider and a renter who know each
 * other only through the market, a text and an image that real models make, and the money for it. Everything is kept in a
 * temporary folder. Exits with 0 only if all of it came true.
 */
const repository = fileURLToPath(new URL('..', import.meta.url))
const imagePath = join(process.cwd(), 'orbyte-demo.png')
const password = 'a password for the demo'
const children: ChildProcess[] = []
const doubts: string[] = []

const say = (line = '') => process.stdout.write(`${line}\n`)
const isPlain = !process.stdout.isTTY || Boolean(process.env.NO_COLOR)
const step = (line: string) => say(isPlain ? `\n${line}` : `\n\x1b[1m${line}\x1b[0m`)
const check = (holds: boolean, claim: string) => {
  if (!holds) doubts.push(claim)
}

const folder = await mkdtemp(join(tmpdir(), 'orbyte-demo-'))
try {
  await demo()
} catch (error) {
  doubts.push(error instanceof Error ? error.message : String(error))
} finally {
  await stopChildren()
  await rm(folder, { recursive: true, force: true })
}
for (const doubt of doubts) process.stderr.write(`\nNot as it should be: ${doubt}\n`)
say(doubts.length === 0 ? '\nAll of that was real, and all of it adds up.' : '')
process.exitCode = doubts.length === 0 ? 0 : 1

async function demo() {
  step('A market')
  const url = await startMarket()
  say(`  ${url}, kept in ${folder}`)
  const [provider, renter] = [await newUser(url, 'provider'), await newUser(url, 'renter')]
  say('  Two accounts: a provider and a renter.')

  step('This machine, offered by the provider')
  for (const { name, vram_gb, price_per_hour } of await startAgent(url, provider))
    say(`  ${name}, ${vram_gb} GiB, ${price_per_hour} ORB an hour`)

  await renter.wallet.deposit({ amount: '10' })
  const before = await wallets(provider, renter)
  const text = await generateText(renter)
  const image = await generateImage(renter)

  step('What it cost')
  for (const task of [text, image]) await showReceipt(renter, task)
  const after = await wallets(provider, renter)
  say(`  The renter's wallet:   ${before.renter} → ${after.renter} ORB`)
  say(`  The provider's wallet: ${before.provider} → ${after.provider} ORB`)
  const paid = parseOrb(before.renter) - parseOrb(after.renter)
  check(paid === parseOrb(after.provider) - parseOrb(before.provider), 'what the renter paid is what the provider got')
  check(
    paid === parseOrb(text.cost ?? '0') + parseOrb(image.cost ?? '0') && paid > 0,
    'the wallets moved by the cost of the tasks',
  )
  const head = await renter.ledger.head()
  say(
    `  The ledger: ${head.transfers} transfers, the sum of all accounts is ${head.sum}, head ${head.head?.hash.slice(0, 16)}…`,
  )
  check(head.sum === '0', 'the sum of the ledger is zero')
}

type Task = Awaited<ReturnType<typeof runTask>>

async function generateText(renter: Client): Promise<Task> {
  step('A text task: "Once upon a time"  (tinylm, a demonstration model of 2 million parameters)')
  process.stdout.write('  ')
  const task = await runTask(
    renter,
    {
      task_type: 'text_generation',
      input_data: { prompt: 'Once upon a time', max_tokens: 120, temperature: 0.7, seed: 42 },
    },
    { onOutput: (output) => process.stdout.write(output.replaceAll('\n', '\n  ')) },
  )
  say()
  check(task.status === 'completed', `the text task completed (${task.status}: ${task.end?.message})`)
  check((task.output_data?.text ?? '').length > 40, 'a real model answered')
  return task as Task
}

async function generateImage(renter: Client): Promise<Task> {
  step('An image task: "a panda on a green background"  (tinyimg, a demonstration model, 32×32 enlarged four times)')
  const task = await runTask(
    renter,
    { task_type: 'image_generation', input_data: { prompt: 'a panda on a green background', seed: 7 } },
    { onEvent: ({ type, data }) => type === 'attempt.preparing' && say(`  ${String(data.progress)}`) },
  )
  check(task.status === 'completed', `the image task completed (${task.status}: ${task.end?.message})`)
  const [file] = task.files
  if (file) {
    const bytes = Buffer.from(await download(renter, file))
    await writeFile(imagePath, bytes)
    say(`  ${file.size_bytes} bytes in ${imagePath}`)
    check(bytes.subarray(1, 4).toString() === 'PNG', 'the image is a PNG file')
  } else check(false, 'the image task made a file')
  return task as Task
}

async function showReceipt(renter: Client, task: Task) {
  const attempt = task.attempts.at(-1)
  if (!attempt || task.payment_id === null) return check(false, `${task.task_type} was paid for`)
  const seconds = (from: string | null, to: string | null) =>
    ((Date.parse(to ?? '') - Date.parse(from ?? '')) / 1_000).toFixed(3)
  const receipt = await renter.payments.receipt({ payment_id: task.payment_id })
  const verdict = await verifyReceipt(receipt)
  say(`  ${task.task_type}
    GPU       ${attempt.gpu_name} (${attempt.gpu_id})
    attempt   ${attempt.number} (${attempt.id})
    ready     ${seconds(attempt.offered_at, attempt.ready_at)} s after it was offered: not charged
    ran       ${(attempt.run_ms / 1_000).toFixed(3)} s at ${attempt.price_per_hour} ORB an hour
    cost      ${task.cost} ORB of ${task.hold} held
    payment   ${receipt.payment.status}, ${receipt.payment.transaction_hash?.slice(0, 16)}…, the receipt ${verdict.ok ? 'verifies' : verdict.problem}`)
  check(verdict.ok, `the receipt of ${task.task_type} verifies`)
  check(receipt.payment.amount === task.cost, `the payment of ${task.task_type} is its cost`)
}

async function wallets(provider: Client, renter: Client) {
  return { provider: (await provider.wallet.get()).balance, renter: (await renter.wallet.get()).balance }
}

async function newUser(url: string, name: string): Promise<Client> {
  const client = createClient({ url })
  const email = `${name}@example.org`
  await client.auth.register({ email, password, name })
  await logIn(client, { email, password })
  return client
}

async function startMarket(): Promise<string> {
  const output = orbyte('the market', ['serve', '--port', '0', '--database', join(folder, 'orbyte.db')])
  for await (const line of output) {
    const found = /a market at (http:\S+?),/.exec(line)
    if (found) {
      void drain(output)
      return found[1]!
    }
  }
  throw new Error('the market did not start: its message is above')
}

/** Resolves once the market has the machine: its GPUs, and its CPU, for what no library here computes on them. */
async function startAgent(url: string, provider: Client) {
  const accelerators = await acceleratorsHere()
  say(
    accelerators.length > 0
      ? `  Found ${accelerators.join(', ')}: the agent offers that and the CPU.`
      : '  No GPU was found here: the agent offers the CPU, and says so.',
  )
  const { token } = await provider.agentTokens.create({ name: 'demo' })
  const output = orbyte('the agent', [
    'agent',
    'start',
    '--server',
    url,
    '--token',
    token,
    '--data',
    join(folder, 'agent'),
    '--cpu',
  ])
  void drain(output, (line) => say(`  agent: ${line}`))
  for (let tries = 0; tries < 600; tries++) {
    const gpus = (await provider.gpus.mine()).items.filter(({ status }) => status === 'available')
    if (gpus.length > 0) return gpus
    if (children.some(({ exitCode }) => exitCode !== null)) throw new Error('the agent ended: its message is above')
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  throw new Error('the agent did not connect within two minutes')
}

/** Starts `orbyte …` as a process. Its standard error goes to ours, its lines come back. */
function orbyte(what: string, options: string[]) {
  const child = spawn(process.execPath, [join(repository, 'dist/orbyte.js'), ...options], {
    cwd: folder,
    env: { ...process.env, LOG_LEVEL: 'warn' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  child.on('error', (error) => doubts.push(`${what} could not start: ${error.message}`))
  children.push(child)
  return createInterface({ input: child.stdout })[Symbol.asyncIterator]()
}

async function drain(lines: AsyncIterator<string>, tell: (line: string) => void = () => {}) {
  for (let next = await lines.next(); !next.done; next = await lines.next()) tell(next.value)
}

/** The agent first, so that it can say goodbye to the market. */
async function stopChildren() {
  for (const child of children.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(late)
  }
}
