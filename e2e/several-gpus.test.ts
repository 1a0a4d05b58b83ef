import { expect, test } from 'vitest'
import { verifyReceipt } from '@orbyte/protocol'
import { runTask } from '@orbyte/sdk'
import { startNetwork, until } from '../dev/network.ts'

const story = { prompt: 'Once upon a time', max_tokens: 40, seed: 42 }

test('a real model runs on two GPUs of one machine, and both earn', async () => {
  const network = await startNetwork({ machines: ['RTX 4090:24x2'] })
  await network.gpusAvailable(2)
  const { client } = network.alice
  const alone = await runTask(client, { task_type: 'text_generation', input_data: story })
  const task = await runTask(client, {
    task_type: 'text_generation',
    input_data: story,
    requirements: { gpu_count: 2 },
  })
  expect(task).toMatchObject({ status: 'completed', output_data: { text: alone.output_data!.text } })
  const [attempt] = task.attempts
  expect(attempt!.gpus).toHaveLength(2)
  expect(Number(attempt!.price_per_hour)).toBeCloseTo(2 * Number(alone.attempts[0]!.price_per_hour), 6)
  const receipt = await client.payments.receipt({ payment_id: task.payment_id! })
  expect(await verifyReceipt(receipt)).toEqual({ ok: true })
  const { items, total } = await network.bob.client.payments.earnings({})
  expect(items).toHaveLength(2)
  expect(total).toBe((await network.bob.client.wallet.get()).balance)
  await network.close()
})

test('two renters’ models run on shares of one GPU at the same time, and who wants all of it waits for both', async () => {
  const network = await startNetwork({ machines: ['RTX 4090:24'] })
  await network.gpusAvailable(1)
  const [{ client: alice }, { client: bob }] = [network.alice, network.bob]
  const [gpu] = (await bob.gpus.mine({})).items
  const part = { requirements: { gpu_milli: 400, min_vram_gb: 6 } }
  const text = { task_type: 'text_generation' as const, input_data: story }
  await expect(alice.tasks.create({ ...text, ...part })).rejects.toMatchObject({ code: 'no_gpu_fits' })
  await bob.gpus.update({ gpu_id: gpu!.id, sharing: true })
  await bob.wallet.deposit({ amount: '100' })
  const sleeping = { task_type: 'other' as const, input_data: { sleep_ms: 600_000 }, ...part }
  const asleep = await bob.tasks.create(sleeping)
  await until(async () => (await bob.tasks.get({ task_id: asleep.id })).started_at !== null, 'the first to run')
  const task = await runTask(alice, { ...text, ...part })
  expect(task).toMatchObject({ status: 'completed', attempts: [{ gpus: [{ milli: 400, vram_gb: 6 }] }] })
  expect(await alice.gpus.get({ gpu_id: gpu!.id })).toMatchObject({ status: 'in_use', free_milli: 600 })
  const whole = await alice.tasks.create(text)
  await until(async () => (await alice.tasks.get({ task_id: whole.id })).waiting?.code === 'gpu_in_use', 'the reason')
  await bob.gpus.reclaim({ gpu_id: gpu!.id })
  expect((await bob.tasks.get({ task_id: asleep.id })).attempts).toMatchObject([
    { status: 'failed', cost: '0', end: { code: 'reclaimed' } },
  ])
  await bob.tasks.cancel({ task_id: asleep.id })
  await network.close()
})
