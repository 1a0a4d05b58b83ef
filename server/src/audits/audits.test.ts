import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import type { TestUser } from '../fixture-server.ts'
import { type AuditedMarket, startAuditedMarket } from './fixture-audited.ts'

let market: AuditedMarket
let admin: TestUser
beforeEach(async () => {
  market = await startAuditedMarket()
  admin = await market.admin()
})
afterEach(() => market.close())

/** Each says its text whenever it is asked, until a check that began has been decided. */
const check = (answers: Map<ScriptedAgent, string>) =>
  market.serve(answers, async () => (await market.audits(admin)).items.some(({ status }) => status !== 'open'))

const received = async (agent: ScriptedAgent) =>
  (await market.ask(market.ownerOf(agent), api.payments.received, {})).items

test('a new GPU and one of another owner’s are asked the same, as any renter might ask, and are paid once they agree', async () => {
  const [one, other] = [await market.newGpu(), await market.newGpu()]
  const asked = await market.untilAsked([one, other])
  expect(asked).toHaveLength(2)
  const [start, same] = [await one.begin(), await other.begin()]
  expect(start.input).toEqual(same.input)
  expect(Object.keys(start.input).sort()).toEqual(
    expect.arrayContaining(['max_tokens', 'seed', 'stop', 'temperature', 'top_p']),
  )
  expect([start.model!.name, start.duration_ms_max]).toEqual(['tinylm', 600_000])
  await market.finish(one, start, 'the same')
  expect((await received(one))[0]).toMatchObject({ status: 'pending' })
  await market.finish(other, same, 'the same')
  const { items, spent } = await market.until(
    () => market.audits(admin),
    (list) => list.items[0]?.status !== 'open',
  )
  expect(items).toMatchObject([
    {
      kind: 'canary',
      status: 'agreed',
      message: '2 GPUs of different owners gave the same answer.',
      answers: [{ verdict: 'agreed' }, { verdict: 'agreed' }],
      cost: spent,
    },
  ])
  for (const agent of [one, other]) {
    expect(await market.gpu(agent)).toMatchObject({ audits_passed: 1, audits_failed: 0 })
    expect((await received(agent))[0]).toMatchObject({ status: 'completed' })
  }
  expect((await market.ownMoney()).held).toBe(0)
})

test('where two differ a third decides: who is wrong is not paid, and is told; the others are', async () => {
  const [liar, honest, third] = [await market.newGpu(), await market.newGpu(), await market.newGpu()]
  await check(
    new Map([
      [liar, 'canned'],
      [honest, 'right'],
      [third, 'right'],
    ]),
  )
  const { items } = await market.audits(admin)
  expect(items).toMatchObject([{ status: 'disagreed', message: '2 of 3 GPUs gave the same answer, 1 another.' }])
  const [payment] = await received(liar)
  expect(payment).toMatchObject({ status: 'refunded' })
  expect(payment!.refunded).toBe(payment!.amount)
  for (const agent of [honest, third]) expect((await received(agent))[0]).toMatchObject({ status: 'completed' })
  expect(await market.gpu(liar)).toMatchObject({ audits_passed: 0, audits_failed: 1 })
  expect(await market.balance(market.ownerOf(liar))).toBe('0')
  const owner = market.ownerOf(liar)
  const seen = await market.ask(owner, api.gpus.audits, { gpu_id: liar.gpuId })
  expect(seen.items).toMatchObject([{ verdict: 'at_fault', kind: 'canary', model: 'tinylm' }])
  expect((await market.ask(owner, api.payments.disputes, {})).items).toMatchObject([
    { status: 'refunded', decided_by: 'platform', note: 'GPUs of other owners agree on another result.' },
  ])
  const events = await market.context.database.read((reader) =>
    market.context.events.ofTask(reader, { taskId: seen.items[0]!.task_id, after: 0, limit: 100 }),
  )
  expect(events.find(({ type }) => type === 'audit.failed')).toMatchObject({
    provider_id: owner.id,
    user_id: null,
    data: { gpu_id: liar.gpuId, message: expect.stringContaining('It was not paid.') },
  })
  expect((await market.ownMoney()).held).toBe(0)
})

test('with two owners only, a difference stays undecided: both are paid, and neither counts as wrong', async () => {
  const [one, other] = [await market.newGpu(), await market.newGpu()]
  await market.untilAsked([one, other])
  await market.answer(one, 'this')
  await market.answer(other, 'that')
  await market.pass(3_700)
  const { items } = await market.audits(admin)
  expect(items.at(-1)).toMatchObject({
    status: 'undecided',
    message: 'The answers differ, and there is no majority: nobody knows who is right.',
    answers: [{ verdict: 'undecided' }, { verdict: 'undecided' }],
  })
  for (const agent of [one, other]) {
    expect((await received(agent)).at(-1)).toMatchObject({ status: 'completed' })
    expect(await market.gpu(agent)).toMatchObject({ audits_passed: 0, audits_failed: 0 })
  }
})

test('a GPU that says that the question is at fault is wrong where others can answer it', async () => {
  const [liar, honest, third] = [await market.newGpu(), await market.newGpu(), await market.newGpu()]
  for (let rounds = 0; rounds < 3; rounds++)
    for (const agent of await market.untilAsked([liar, honest, third])) {
      if (agent !== liar) {
        await market.answer(agent, 'right')
        continue
      }
      const start = await liar.begin()
      await liar.result(start, { outcome: 'failed', fault: 'renter', code: 'input_refused' })
    }
  expect(await market.gpu(liar)).toMatchObject({ audits_failed: 1 })
})

test('GPUs of another kind, or with another version of the agent, are never compared', async () => {
  const one = await market.newGpu()
  const other = await market.newGpu({ model: 'NVIDIA H100' })
  expect(await market.untilAsked([one, other], 120)).toEqual([])
})

test('an agent that was wrong three times is suspended; an administrator can lift that, and it begins anew', async () => {
  const [liar, ...honest] = [await market.newGpu(), await market.newGpu(), await market.newGpu()]
  const answers = new Map([[liar!, 'canned'], ...honest.map((agent) => [agent, 'right'] as const)])
  expect(await market.serve(answers, async () => !liar!.isOpen())).toBe(true)
  expect((await market.gpu(liar!)).audits_failed).toBe(3)
  await liar!.closed
  const owner = market.ownerOf(liar!)
  const [agent] = (await market.ask(owner, api.agents.list, {})).items
  expect(agent).toMatchObject({
    status: 'suspended',
    suspended_reason: expect.stringContaining('3 results of this machine were checked and found wrong'),
  })
  await expect(market.reconnect(liar!)).rejects.toThrow(/hung up/)
  await market.ask(admin, api.admin.restoreAgent, { agent_id: agent!.id })
  const back = await market.reconnect(liar!)
  expect((await market.gpu(back)).status).toBe('available')
})

test('a check waits while the market is paused, and gives way to a renter', async () => {
  const [one, other] = [await market.newGpu(), await market.newGpu()]
  await market.ask(admin, api.admin.pauseMarket, { reason: 'a test' })
  expect(await market.untilAsked([one, other], 60)).toEqual([])
  await market.ask(admin, api.admin.resumeMarket, {})
  await market.untilAsked([one, other])
  const [start] = [await one.begin(), await other.begin()]
  const alice = await market.person('100')
  const { id } = await market.submit(alice, { task_type: 'text_generation', input_data: { prompt: 'Mine first' } })
  market.clock.advance(200)
  expect(await one.next('attempt.stop')).toMatchObject(one.ref(start!))
  await one.result(start!, { outcome: 'stopped', output_data: null })
  const first = await one.next('attempt.start')
  expect(first.task_id).toBe(id)
})

test('nothing is asked of a GPU that a renter waits for', async () => {
  const alice = await market.person('100')
  const input_data = { prompt: 'Mine' }
  const [one, other] = [await market.newGpu(), await market.newGpu()]
  for (let tasks = 0; tasks < 3; tasks++) await market.submit(alice, { task_type: 'text_generation', input_data })
  const [start, second] = [await one.begin(), await other.begin()]
  await market.pass(60)
  await market.finish(one, start, 'text')
  const third = await one.begin()
  expect((await market.audits(admin)).items).toEqual([])
  await market.finish(one, third, 'text')
  await market.finish(other, second, 'text')
})
