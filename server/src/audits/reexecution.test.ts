import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent, Start } from '../agents/fixture-agent.ts'
import { defaultTiming } from '../config.ts'
import type { TestUser } from '../fixture-server.ts'
import { type AuditedMarket, startAuditedMarket } from './fixture-audited.ts'

const secrets = { secretKey: 'a secret key for tests', ledgerKey: 'a ledger key for tests' }
let folder: string
let market: AuditedMarket
let alice: TestUser
let admin: TestUser
/** Where Alice's task runs, and who else could. */
let subject: ScriptedAgent
let others: ScriptedAgent[]

/** No canaries: only what renters have agreed to is checked. */
const open = (outside = {}) =>
  startAuditedMarket({
    config: {
      ...secrets,
      databasePath: join(folder, 'orbyte.db'),
      timing: { ...defaultTiming, auditEveryMs: 10_000_000_000 },
    },
    outside,
  })
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'orbyte-reexecution-'))
  market = await open()
  admin = await market.admin()
  alice = await market.person('100')
  subject = await market.newGpu({ price_per_hour: '1' })
  others = [await market.newGpu(), await market.newGpu()]
})
afterEach(async () => {
  await market.close()
  await rm(folder, { recursive: true })
})

/** Alice's task, completed with this text on the cheapest GPU. */
async function runTask(text: string, fields: object = {}): Promise<string> {
  const input_data = { prompt: 'Something private' }
  const { id } = await market.submit(alice, {
    task_type: 'text_generation',
    input_data,
    allow_reexecution: true,
    ...fields,
  })
  await market.answer(subject, text)
  return id
}

/** The next one that is asked, and what. */
async function nextAsked(): Promise<{ agent: ScriptedAgent; start: Start }> {
  const [agent] = await market.untilAsked(others)
  return { agent: agent!, start: await agent!.begin() }
}

const ended = (taskId: string) =>
  market.until(
    () => market.task(alice, taskId),
    ({ reexecution }) => reexecution !== 'waiting',
  )
const paymentOf = async (taskId: string) => {
  const { payment_id } = await market.task(alice, taskId)
  return market.ask(alice, api.payments.get, { payment_id: payment_id! })
}

test('a task whose renter agrees is run again on another owner’s GPU, at the market’s cost, and confirmed', async () => {
  const id = await runTask('right')
  expect(await market.task(alice, id)).toMatchObject({ status: 'completed', reexecution: 'waiting' })
  const { agent, start } = await nextAsked()
  const { input_data } = await market.task(alice, id)
  expect(start.input).toEqual(input_data)
  expect(start.task_id).not.toBe(id)
  await market.finish(agent, start, 'right')
  expect(await ended(id)).toMatchObject({ reexecution: 'confirmed', cost: '0.000278' })
  expect(await market.balance(alice)).toBe('99.999722')
  expect(await market.balance(market.ownerOf(agent))).toBe('0.001')
  for (const checked of [subject, agent]) expect((await market.gpu(checked)).audits_passed).toBe(1)
  const copy = await market.until(
    () => market.task(admin, start.task_id),
    (task) => task.input_data === null,
  )
  expect([copy.output_data, copy.end!.code]).toEqual([null, 'completed'])
  expect((await market.task(alice, id)).output_data).toMatchObject({ text: 'right' })
})

test('a task that others agree was wrong is refunded, and its renter is told', async () => {
  const id = await runTask('canned')
  for (let asked = 0; asked < 2; asked++) {
    const { agent, start } = await nextAsked()
    await market.finish(agent, start, 'right')
  }
  expect(await ended(id)).toMatchObject({ status: 'completed', reexecution: 'refuted' })
  expect(await paymentOf(id)).toMatchObject({ status: 'refunded', refunded: '0.000278' })
  expect([await market.balance(alice), await market.balance(market.ownerOf(subject))]).toEqual(['100', '0'])
  const events = await market.context.database.read((reader) =>
    market.context.events.ofTask(reader, { taskId: id, after: 0, limit: 100 }),
  )
  expect(events.find(({ type }) => type === 'task.refuted')).toMatchObject({
    user_id: alice.id,
    provider_id: null,
    data: { refunded: '0.000278' },
  })
  expect(await market.gpu(subject)).toMatchObject({ audits_failed: 1 })
})

test('what a provider has withdrawn cannot be given back; what is left is', async () => {
  const id = await runTask('canned')
  await market.ask(market.ownerOf(subject), api.wallet.withdraw, { amount: '0.0002' })
  for (let asked = 0; asked < 2; asked++) {
    const { agent, start } = await nextAsked()
    await market.finish(agent, start, 'right')
  }
  expect(await ended(id)).toMatchObject({ reexecution: 'refuted' })
  expect(await paymentOf(id)).toMatchObject({ status: 'completed', refunded: '0.000078' })
})

test('a payment under review goes back whole, and the dispute says why', async () => {
  const id = await runTask('canned', { auto_pay: false })
  for (let asked = 0; asked < 2; asked++) {
    const { agent, start } = await nextAsked()
    await market.finish(agent, start, 'right')
  }
  expect(await ended(id)).toMatchObject({ reexecution: 'refuted' })
  expect(await paymentOf(id)).toMatchObject({ status: 'refunded', refunded: '0.000278' })
  expect((await market.ask(alice, api.payments.disputes, {})).items).toMatchObject([
    { status: 'refunded', decided_by: 'platform' },
  ])
})

test('nobody’s task is run again without their consent, nor where nobody else could', async () => {
  const without = await runTask('text', { allow_reexecution: false })
  for (const agent of others) await agent.disconnect()
  const alone = await runTask('text')
  for (const id of [without, alone]) expect((await market.task(alice, id)).reexecution).toBeNull()
  expect((await market.audits(admin)).items).toEqual([])
})

test('a renter’s own GPU is not asked about their task', async () => {
  for (const agent of others) await agent.disconnect()
  const own = await market.newGpu({}, alice)
  const id = await runTask('text')
  expect((await market.task(alice, id)).reexecution).toBeNull()
  expect(own.untaken('attempt.start')).toEqual([])
})

test('a renter who deletes the data of a task ends its check, and the copy goes too', async () => {
  const id = await runTask('text')
  const { agent, start } = await nextAsked()
  await market.ask(alice, api.tasks.deleteData, { task_id: id })
  await market.finish(agent, start, 'text')
  expect((await ended(id)).reexecution).toBe('undecided')
  await market.until(
    () => market.task(admin, start.task_id),
    (task) => task.input_data === null,
  )
})

test('a check goes on after a restart of the market', async () => {
  const id = await runTask('right')
  const { agent, start } = await nextAsked()
  const { clock } = market
  await market.close()
  const [bare, owner] = [market, market.ownerOf(agent)]
  market = await open({ clock })
  market.clock = clock
  const held = { attempt_id: start.attempt_id, fencing_token: start.fencing_token, status: 'running', run_ms: 0 }
  const back = await market.reconnect(agent, { attempts: [held] })
  await bare.finish(back, start, 'right')
  expect((await ended(id)).reexecution).toBe('confirmed')
  expect(await market.balance(owner)).toBe('0.001')
  expect((await market.ownMoney()).held).toBe(0)
})
