import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startTestServer, type TestServer } from '@orbyte/server/fixture-server.ts'
import { systemClock } from '@orbyte/server/system-context.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestCli, type Running, type TestCli } from './fixture-cli.ts'

// A market, a provider whose agent runs `orbyte agent start` with an emulated GPU, and a renter: all through the command.
const secretKey = 'a secret key for this test only'
const cleanUps: (() => void)[] = []
let market: TestServer
let bob: TestCli
let alice: TestCli
let agent: Running

beforeAll(async () => {
  market = await startTestServer({ secretKey, allowEmulatedGpus: true }, { clock: systemClock })
  bob = await registered('bob@example.org')
  alice = await registered('alice@example.org')
  await alice(['wallet', 'deposit', '100'])
  const token = (await bob(['tokens', 'create', 'gaming PC'])).stdout.trim()
  const args = [
    '--token',
    token,
    '--emulate',
    'RTX 4090:24',
    '--allow-fake',
    '--price',
    '0.4',
    '--name',
    'rig',
    '--data',
    'data',
  ]
  agent = bob.start(['agent', 'start', ...args])
  await agent.says(/Connected to/)
})
afterAll(async () => {
  for (const cleanUp of cleanUps.reverse()) cleanUp()
  await market.close()
})

async function registered(email: string): Promise<TestCli> {
  const orbyte = createTestCli(market.url, (work) => cleanUps.push(work))
  const { code, stderr } = await orbyte(['register', email, '--password-stdin'], { stdin: 'correct horse battery' })
  if (code !== 0) throw new Error(stderr)
  return orbyte
}

/** A file with a task for the fake executor, which obeys it. */
function taskFile(orbyte: TestCli, input_data: object, more: object = {}): string {
  const path = join(orbyte.folder, 'task.json')
  writeFileSync(path, JSON.stringify({ task_type: 'other', input_data, ...more }))
  return path
}
const taskIdIn = (text: string) => /task_[0-9a-z]{26}/.exec(text)![0]

test('a task streams its text to standard output, and what it may and did cost to standard error', async () => {
  const input = { output: 'Once upon a time', chunks: 4, sleep_ms: 40 }
  const { code, stdout, stderr } = await alice(['run', 'file', taskFile(alice, input)])
  expect({ code, stdout }).toEqual({ code: 0, stdout: 'Once upon a time\n' })
  expect(stderr).toMatch(/1 GPU fits, 1 free · best: rig \(.*RTX 4090.*\) at 0\.4 ORB\/h · holds at most 0\.4 ORB/)
  expect(stderr).toMatch(/completed · rig \(.*\) · \d+ ms × 0\.4 ORB\/h = 0\.\d+ ORB · task_/)
})

test('with --json a run prints the finished task and nothing else', async () => {
  const task = await alice.json(['run', 'file', taskFile(alice, { output: 'text' })])
  expect(task).toMatchObject({ status: 'completed', output_data: { text: 'text' }, cost: expect.stringMatching(/^0/) })
})

test('a task without text prints its output, and files are checked and written', async () => {
  const plain = await alice(['run', 'file', taskFile(alice, {})])
  expect(JSON.parse(plain.stdout)).toMatchObject({ fake: true, exit_code: 0 })
  const files = [
    { name: 'a.txt', text: 'first' },
    { name: 'b.txt', text: 'second' },
  ]
  const written = await alice(['run', 'file', taskFile(alice, { files }), '-o', 'out.txt'])
  expect(written.stdout).toBe('out.txt\nout-2.txt\n')
  expect(readFileSync(join(alice.folder, 'out-2.txt'), 'utf8')).toBe('second')
  const listed = await alice(['tasks', 'files', 'last', '-o', 'results'])
  expect(listed.stdout).toContain('results/a.txt')
  expect(readFileSync(join(alice.folder, 'results', 'a.txt'), 'utf8')).toBe('first')
  expect(await alice(['tasks', 'files', 'last', 'c.txt'])).toMatchObject({ code: 5 })
  expect((await alice(['tasks', 'images'])).stderr).toContain('No images yet')
  expect(await alice(['tasks', 'output', 'last'])).toMatchObject({
    stdout: '',
    stderr: expect.stringContaining('2 files'),
  })
})

test('nothing is submitted when the result could not be written', async () => {
  const before = (await alice.json(['tasks'])).items.length
  expect(await alice(['run', 'file', taskFile(alice, {}), '-o', 'nowhere/out.txt'])).toMatchObject({
    code: 2,
    stdout: '',
  })
  expect((await alice.json(['tasks'])).items).toHaveLength(before)
})

test('a task that fails ends with 1 and says why and whose decision it was', async () => {
  const { code, stderr } = await alice(['run', 'file', taskFile(alice, { exit_code: 3 })])
  expect(code).toBe(1)
  expect(stderr).toContain('error: The task failed: ')
  const shown = await alice(['tasks', 'show', 'last'])
  expect(shown.stdout).toMatch(/^End .*decided by the agent\)$/m)
})

test('Ctrl-C cancels the task and says what it cost', async () => {
  const run = alice.start(['run', 'file', taskFile(alice, { output: 'ab', chunks: 2, sleep_ms: 120_000 })])
  await run.says(/^running$/m)
  run.signal('SIGINT')
  const { code, stderr } = await run.ended
  expect(code).toBe(130)
  expect(stderr).toContain('Cancelling the task')
  expect(stderr).toMatch(/cancelled · rig .* ORB · task_/)
  expect(await alice.json(['tasks', 'show', taskIdIn(stderr)])).toMatchObject({
    status: 'cancelled',
    end: { decided_by: 'renter' },
  })
})

test('a task without money for it ends with 4, and one that nobody can run says what to do', async () => {
  const poor = await registered('poor@example.org')
  expect(await poor(['run', 'file', taskFile(poor, {})])).toMatchObject({ code: 4, stdout: '' })
  const { code, stderr } = await alice(['run', 'file', taskFile(alice, {}), '--min-vram', '80'])
  expect(code).toBe(1)
  expect(stderr).toContain('--wait')
})

test('options of the command line become requirements and limits of the task', async () => {
  const options = [
    '--gpu-model',
    '4090',
    '--max-price',
    '0.5',
    '--max-time',
    '90s',
    '--max-wait',
    '2h',
    '--title',
    'try',
    '--priority',
    '9',
  ]
  const task = await alice.json(['run', 'file', taskFile(alice, {}, { requirements: { min_vram_gb: 8 } }), ...options])
  expect(task).toMatchObject({
    requirements: { gpu_model: '4090', min_vram_gb: 8 },
    max_price_per_hour: '0.5',
    max_duration_ms: 90_000,
    max_wait_ms: 7_200_000,
    title: 'try',
    priority: 9,
  })
})

test('an owner shares a GPU, a renter has a share of it, and both see how much', async () => {
  const [gpu] = (await bob.json(['gpus', 'mine'])).items as unknown as { id: string }[]
  const asked = ['run', 'file', taskFile(alice, {}), '--gpu-share', '25%', '--min-vram', '6']
  const refused = await alice(asked)
  expect(refused.stderr).toContain('its owner offers it only as a whole')
  expect(refused.stderr).toContain('a whole GPU instead of a share (1 GPU)')
  expect((await bob(['gpus', 'set', gpu!.id, '--sharing', 'on'])).stdout).toMatch(/^Sharing +on/m)
  const { code, stderr } = await alice(asked)
  expect(code).toBe(0)
  expect(stderr).toMatch(/completed · 25 % of rig, 6 GiB .* × 0\.1 ORB\/h/)
  expect((await bob(['gpus', 'attempts', gpu!.id])).stdout).toContain('25 %')
  expect(await alice(['run', 'file', taskFile(alice, {}), '--gpu-share', '0%'])).toMatchObject({ code: 2 })
  expect((await bob(['gpus', 'set', gpu!.id, '--sharing', 'off'])).stdout).not.toMatch(/^Sharing/m)
})

test('who wants more GPUs than a machine has is told so', async () => {
  const { code, stderr } = await alice(['run', 'file', taskFile(alice, {}), '--gpus', '2'])
  expect(code).toBe(1)
  expect(stderr).toContain('its machine has fewer than 2 GPUs like it')
  expect(stderr).toContain('1 GPU instead of 2')
})

test('submitted tasks can be listed, watched, read, run again, and their data deleted', async () => {
  const lines = [1, 2].map((number) => JSON.stringify({ task_type: 'other', input_data: { output: `text ${number}` } }))
  const submitted = await alice(['tasks', 'submit', '-'], { stdin: lines.join('\n') })
  expect(submitted.stderr).toContain('Submitted 2 tasks')
  const [first, second] = submitted.stdout.trim().split('\n') as [string, string]
  const events = (await alice(['tasks', 'watch', first, '--json'])).stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string })
  expect(events[0]!.type).toBe('task.queued')
  expect(events.at(-1)!.type).toBe('task.completed')
  expect((await alice(['tasks', 'watch', second])).stdout).toBe('text 2\n')
  expect((await alice(['tasks', 'output', second])).stdout).toBe('text 2\n')
  expect((await alice(['tasks', 'output', second, '--logs'])).stdout).toContain('fake executor')
  const again = (await alice(['tasks', 'rerun', second])).stdout.trim()
  expect((await alice(['tasks', 'watch', again])).stdout).toBe('text 2\n')
  expect((await alice(['tasks', 'delete-data', again])).code).toBe(0)
  expect(await alice(['tasks', 'output', again])).toMatchObject({ code: 5 })
  expect((await alice(['tasks', 'cancel', again])).code).toBe(1)
  const listed = await alice(['tasks', 'list', '--status', 'completed', '--all'])
  for (const id of [first, second, again]) expect(listed.stdout).toContain(id)
})

test('a payment under review is paid or disputed, and its receipt holds offline until somebody changes it', async () => {
  const run = await alice(['run', 'file', taskFile(alice, { sleep_ms: 20 }), '--no-auto-pay'])
  const taskId = taskIdIn(run.stderr)
  expect(run.stderr).toContain(`orbyte payments pay ${taskId}`)
  expect(run.stderr).toContain(`orbyte payments dispute ${taskId}`)
  const paid = await alice.json(['payments', 'pay', 'last'])
  expect(paid.status).toBe('completed')
  expect((await alice(['payments', 'receipt', taskId, '-o', 'receipt.json'])).stdout).toContain(
    'ledger verify receipt.json',
  )
  const { public_key } = await alice.json(['ledger', 'head'])
  const elsewhere = { env: { ORBYTE_URL: 'http://127.0.0.1:1' } }
  const held = await alice(['ledger', 'verify', 'receipt.json', '--key', public_key!], elsewhere)
  expect(held).toMatchObject({ code: 0, stdout: expect.stringContaining('This receipt holds.') })
  const path = join(alice.folder, 'receipt.json')
  writeFileSync(path, readFileSync(path, 'utf8').replace(`"amount": "${paid.amount}"`, '"amount": "99"'))
  expect(await alice(['ledger', 'verify', 'receipt.json'], elsewhere)).toMatchObject({ code: 1 })
  expect((await bob.json(['payments', 'earnings'])).items).toHaveLength(1)

  await alice(['run', 'file', taskFile(alice, { sleep_ms: 20 }), '--no-auto-pay'])
  const [pending] = (await alice.json(['payments', 'list', '--sent'])).items as unknown as [{ id: string }]
  expect((await alice(['payments', 'dispute', 'last', 'It did nothing at all.'])).stdout).toContain('Opened disp_')
  const [dispute] = (await alice.json(['payments', 'disputes'])).items as unknown as [{ id: string }]
  const admin = await administrator()
  expect((await admin(['admin', 'disputes', '--status', 'open'])).stdout).toContain(dispute.id)
  expect((await admin(['admin', 'decide', dispute.id, 'refund', '--note', 'It did nothing.'])).stdout).toContain(
    'refunded',
  )
  expect((await alice.json(['payments', 'show', pending.id])).status).toBe('refunded')
})

async function administrator(): Promise<TestCli> {
  const admin = createTestCli(market.url, (work) => cleanUps.push(work))
  const stdin = 'correct horse battery'
  await admin(['admin', 'create', 'root@example.org', '--password-stdin'], { stdin, env: { SECRET_KEY: secretKey } })
  await admin(['login', 'root@example.org', '--password-stdin'], { stdin })
  return admin
}

test('a task that waits says why and what would change it, and a GPU why it earns', async () => {
  const dear = await alice(['run', 'file', taskFile(alice, {}, { max_price_per_hour: '0.3' })])
  expect(dear.stderr).not.toContain('It would with')
  expect(dear.stderr).toContain('It could run with +0.1 ORB an hour (1 GPU).')
  const priceless = await alice(['run', 'file', taskFile(alice, {}), '--min-vram', '80', '--wait'])
  expect(priceless).toMatchObject({ code: 2, stderr: expect.stringContaining('--max-price') })
  const path = taskFile(alice, {}, { max_price_per_hour: '0.3', wait: true })
  const id = (await alice(['tasks', 'submit', path])).stdout.trim()
  const { stdout } = await alice(['tasks', 'explain', 'last'])
  expect(stdout).toMatch(/^The only GPU does not fit/)
  expect(stdout).toMatch(/Status +pending \(no_gpu_fits\)/)
  expect(stdout).toContain('  +0.1 ORB an hour: 1 GPU, 1 free')
  expect(stdout).toMatch(/rig .* 0\.4 +it costs more than 0\.3 ORB an hour/)
  expect(await alice.json(['tasks', 'explain', id])).toMatchObject({ task_id: id, fitting: 0, ahead: 0 })
  await alice(['tasks', 'cancel', id])

  const [{ id: gpuId }] = (await bob.json(['gpus', 'mine'])).items as unknown as [{ id: string }]
  const earning = await bob(['gpus', 'explain', gpuId])
  expect(earning.stdout).toMatch(/^It got \d+ of the last \d+ tasks, and would fit \d+\./)
  expect(earning.stdout).toMatch(/Price +0\.4 ORB\/h/)
  expect((await bob(['gpus', 'attempts', gpuId])).stdout).toMatch(/completed .* Completed after .* \(completed\)/)
  expect(await alice(['gpus', 'explain', gpuId])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('belongs to'),
  })
})

test('an owner sees and changes their GPU, and takes it back from the market', async () => {
  const [{ id }] = (await bob.json(['gpus', 'mine'])).items as unknown as [{ id: string }]
  expect((await alice(['gpus', '--max-price', '1', '--available'])).stdout).toContain(id)
  expect((await bob.json(['gpus', 'set', id, '--price', '0.35', '--name', 'big rig'])).price_per_hour).toBe('0.35')
  expect((await bob(['gpus', 'prices', id])).stdout).toContain('0.35')
  expect(await alice(['gpus', 'set', id, '--price', '9'])).toMatchObject({ code: 1 })
  expect((await bob(['gpus', 'maintenance', id, 'on'])).stdout).toMatch(/Status +maintenance/)
  expect((await bob(['gpus', 'maintenance', id, 'off'])).stdout).toMatch(/Status +available/)
  expect((await bob(['gpus', 'reclaim', id])).stdout).toMatch(/Status +maintenance/)
  expect((await bob(['gpus', 'maintenance', id, 'off'])).code).toBe(0)
  expect((await alice(['gpus', 'show', id])).stdout).toContain('big rig')
})

test('the agent on this machine says what it does, pauses, and stops in order', async () => {
  const data = ['--data', 'data']
  expect((await bob(['agent', 'status', ...data])).stdout).toContain('connected to')
  expect((await bob.json(['agent', 'drain', ...data])) as unknown).toMatchObject({ devices: [{ status: 'drained' }] })
  expect((await bob(['agent', 'resume', ...data])).code).toBe(0)
  const [machine] = (await bob.json(['agent', 'list'])).items as unknown as [{ connected: boolean }]
  expect(machine.connected).toBe(true)
  expect(await bob(['agent', 'start', '--nonsense'])).toMatchObject({ code: 2 })
  expect((await bob(['agent', 'stop', ...data])).code).toBe(0)
  expect((await agent.ended).code).toBe(0)
  expect((await bob(['agent', 'status', ...data])).code).toBe(1)
})
