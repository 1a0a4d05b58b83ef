import { expect, test } from 'vitest'
import { runTask } from '@orbyte/sdk'
import { defaultTiming } from '@orbyte/server/config.ts'
import { type Network, startNetwork, until } from '../dev/network.ts'

/** Until one is run again: where every other GPU is busy just then, a task is not. */
async function confirmedTask({ alice: { client } }: Network) {
  const input_data = { prompt: 'Once upon a time', max_tokens: 40 }
  for (;;) {
    const { id } = await runTask(client, { task_type: 'text_generation', input_data, allow_reexecution: true })
    const reexecution = async () => (await client.tasks.get({ task_id: id })).reexecution
    await until(async () => (await reexecution()) !== 'waiting', 'the task to be run again')
    const found = await reexecution()
    if (found !== null) return found
  }
}

test('real engines of different owners agree, on canaries and on a renter’s task that is run again', async () => {
  const timing = { ...defaultTiming, auditEveryMs: 200, auditGapMs: 5_000 }
  const machines = ['RTX 4090:24', 'RTX 4090:24', 'RTX 4090:24']
  const network = await startNetwork({ machines, hasOwners: true, config: { timing } })
  await network.gpusAvailable(3)
  const audits = async () => (await network.carol.client.admin.audits({ limit: 200 })).items
  const isAgreed = async () => (await audits()).some(({ kind, status }) => kind === 'canary' && status === 'agreed')
  await until(isAgreed, 'a canary to be agreed on')
  expect(await confirmedTask(network)).toBe('confirmed')
  expect((await audits()).filter(({ status }) => status === 'disagreed')).toEqual([])
  const { items } = await network.alice.client.gpus.list({})
  expect(items.filter(({ audits_passed }) => audits_passed > 0).length).toBeGreaterThan(1)
  await network.close()
})
