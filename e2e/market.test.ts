import { expect, test } from 'vitest'
import { verifyReceipt } from '@orbyte/protocol'
import { download, runTask } from '@orbyte/sdk'
import { startNetwork } from '../dev/network.ts'

test('a real model answers a text task, streams it, and the provider is paid', async () => {
  const network = await startNetwork()
  await network.gpusAvailable(1)
  const { client } = network.alice
  let streamed = ''
  const task = await runTask(
    client,
    { task_type: 'text_generation', input_data: { prompt: 'Once upon a time', max_tokens: 60, seed: 42 } },
    { onOutput: (text) => (streamed += text), onReset: () => (streamed = '') },
  )
  expect(task).toMatchObject({ status: 'completed', end: { code: 'completed', decided_by: 'agent' } })
  expect(task.output_data?.text.length).toBeGreaterThan(40)
  expect(streamed).toBe(task.output_data?.text)
  expect(await client.tasks.output({ task_id: task.id })).toBe(streamed)
  const receipt = await client.payments.receipt({ payment_id: task.payment_id! })
  expect(await verifyReceipt(receipt)).toEqual({ ok: true })
  expect((await network.bob.client.wallet.get()).balance).toBe(task.cost)
  await network.close()
})

test('the same seed gives the same image, and the file can be downloaded', async () => {
  const network = await startNetwork()
  await network.gpusAvailable(1)
  const { client } = network.alice
  const make = () =>
    runTask(client, {
      task_type: 'image_generation',
      input_data: { prompt: 'a panda on a zorgish background', seed: 7 },
    })
  const [first, second] = [await make(), await make()]
  expect(first.output_data?.images).toMatchObject([{ width: 128, height: 128, seed: 7 }])
  expect(first.output_data?.ignored_words).toContain('zorgish')
  expect(first.files.map(({ sha256 }) => sha256)).toEqual(second.files.map(({ sha256 }) => sha256))
  const bytes = await download(client, first.files[0]!)
  expect(Buffer.from(bytes.subarray(0, 8))).toEqual(Buffer.from('89504e470d0a1a0a', 'hex'))
  await network.close()
})

test('embeddings of related sentences are closer than those of unrelated ones', async () => {
  const network = await startNetwork()
  await network.gpusAvailable(1)
  const input = ['hire a gpu to train a model', 'rent a graphics card', 'a banana bread with walnuts']
  const task = await runTask(network.alice.client, { task_type: 'embedding', input_data: { input } })
  const [query, near, far] = task.output_data!.embeddings as [number[], number[], number[]]
  const dot = (a: number[], b: number[]) => a.reduce((sum, value, index) => sum + value * b[index]!, 0)
  expect(dot(query, near)).toBeGreaterThan(dot(query, far))
  await network.close()
})

test('a GPU that its owner takes back is free within five seconds, and the task runs elsewhere, paid once', async () => {
  const network = await startNetwork({ machines: ['RTX 4090:24', 'RTX 3090:24'] })
  await network.gpusAvailable(2)
  const { client } = network.alice
  const submitted = await client.tasks.create({ task_type: 'other', input_data: { sleep_ms: 5_000, output: 'done' } })
  let reclaimed: string | null = null
  const task = await runTaskToEnd(client, submitted.id, async (event) => {
    if (event.type !== 'attempt.ready' || reclaimed !== null) return
    reclaimed = String(event.data.gpu_id)
    await network.bob.client.gpus.reclaim({ gpu_id: reclaimed })
  })
  expect(task.status).toBe('completed')
  expect(task.attempts.map(({ status, cost, end }) => [status, cost === '0', end?.code])).toEqual([
    ['failed', true, 'reclaimed'],
    ['completed', false, 'completed'],
  ])
  const gpu = await network.bob.client.gpus.get({ gpu_id: reclaimed! })
  expect(gpu).toMatchObject({ status: 'maintenance', draining: false })
  expect((await network.bob.client.payments.received()).items).toHaveLength(1)
  await network.close()
})

test('a cancelled task stops on the machine and frees the GPU for the next one', async () => {
  const network = await startNetwork()
  await network.gpusAvailable(1)
  const { client } = network.alice
  const long = await client.tasks.create({
    task_type: 'other',
    input_data: { sleep_ms: 600_000, output: 'never', chunks: 600 },
  })
  const task = await runTaskToEnd(client, long.id, async (event) => {
    if (event.type === 'attempt.ready') await client.tasks.cancel({ task_id: long.id })
  })
  expect(task).toMatchObject({ status: 'cancelled', end: { code: 'cancelled', decided_by: 'renter' } })
  const next = await runTask(client, { task_type: 'other', input_data: { output: 'next' } })
  expect(next.status).toBe('completed')
  await network.close()
})

type Client = Parameters<typeof runTask>[0]
type TaskEvent = Awaited<ReturnType<Client['tasks']['events']>> extends AsyncIterable<infer E> ? E : never

async function runTaskToEnd(client: Client, taskId: string, onEvent: (event: TaskEvent) => Promise<void>) {
  for await (const event of await client.tasks.events({ task_id: taskId })) await onEvent(event)
  return client.tasks.get({ task_id: taskId })
}
