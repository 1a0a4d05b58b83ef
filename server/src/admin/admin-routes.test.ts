import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { api, signOperatorToken } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'
import { outcome, testPassword, type TestUser } from '../fixture-server.ts'

let market: Market
let admin: TestUser
let alice: TestUser
let bob: TestUser
beforeAll(async () => {
  market = await startMarket()
  admin = await market.admin()
})
beforeEach(async () => {
  alice = await market.person('100')
  bob = await market.person()
})
afterEach(() => market.clear())
afterAll(() => market.close())

const reason = 'mined coins instead'
const logIn = (email: string, password: string) =>
  market.call('POST /api/auth/token', { body: { username: email, password } })
const actions = () =>
  market.context.database.read((reader) =>
    reader.all<{ admin_id: string; action: string; subject: string; reason: string | null }>(
      'SELECT admin_id, action, subject, reason FROM admin_actions ORDER BY id',
    ),
  )

test('whoever holds the secret key makes the first administrator; a user cannot', async () => {
  const body = { email: 'first-admin@example.org', password: testPassword }
  const make = (token: string) => market.call('POST /api/admin/admins', { token, body })
  const { secretKey } = market.context.config
  expect(outcome(await make(alice.token))).toBe('403 forbidden')
  expect(outcome(await make(await signOperatorToken('another secret key', market.clock.now())))).toBe(
    '401 unauthenticated',
  )
  const old = await signOperatorToken(secretKey, market.clock.now() - 6 * 60_000)
  expect(outcome(await make(old))).toBe('401 token_expired')
  const operator = await signOperatorToken(secretKey, market.clock.now())
  expect((await make(operator)).body).toMatchObject({ role: 'admin', email: body.email })
  expect(outcome(await make(operator))).toBe('409 email_taken')
  const { access_token } = (await logIn(body.email, testPassword)).body as { access_token: string }
  expect(outcome(await market.call('GET /api/admin/users', { token: access_token }))).toBe('200')
})

test('what administrators decided can be read, newest first, page by page', async () => {
  await market.call(`POST /api/admin/users/${alice.id}/suspend`, { token: admin.token, body: { reason } })
  await market.call(`POST /api/admin/users/${alice.id}/restore`, { token: admin.token })
  const read = (query: string) => market.call(`GET /api/admin/actions?${query}`, { token: admin.token })
  type ActionPage = { items: object[]; next_cursor: string }
  const first = (await read('limit=1')).body as ActionPage
  expect(first.items).toMatchObject([
    { admin_id: admin.id, action: 'user.restore', subject: alice.id, reason: null, created_at: expect.any(String) },
  ])
  const second = (await read(`limit=1&cursor=${first.next_cursor}`)).body as ActionPage
  expect(second.items).toMatchObject([{ action: 'user.suspend', subject: alice.id, reason }])
  expect(outcome(await read('cursor=nonsense'))).toBe('400 invalid_cursor')
})

test('a suspended renter’s tasks end, charged for what ran; nothing of theirs works until the suspension is lifted', async () => {
  const agent = await market.machine(bob)
  const running = await market.submit(alice)
  const start = await agent.begin()
  const waiting = await market.submit(alice)
  market.clock.advance(2_000)
  await agent.heartbeat([{ start, run_ms: 2_000 }])
  expect(await market.ask(admin, api.admin.suspendUser, { user_id: alice.id, reason })).toMatchObject({
    status: 'suspended',
  })
  expect(await agent.next('attempt.stop')).toMatchObject(agent.ref(start))
  const end = { code: 'user_suspended', decided_by: 'admin', message: expect.stringContaining(reason) }
  expect(await market.task(admin, running.id)).toMatchObject({ status: 'cancelled', cost: '0.002', end })
  expect(await market.task(admin, waiting.id)).toMatchObject({ status: 'cancelled', cost: '0', end })
  expect(await market.balance(bob)).toBe('0.002')
  expect(outcome(await market.attempt(alice, api.wallet.get, {}))).toBe('403 user_suspended')
  expect(outcome(await logIn(alice.email, testPassword))).toBe('403 user_suspended')
  await market.ask(admin, api.admin.restoreUser, { user_id: alice.id })
  expect(await market.balance(alice)).toBe('99.998')
})

test('a suspended provider’s agents are sent away: what ran there goes elsewhere, and they come back when it is lifted', async () => {
  const agent = await market.machine(bob, [{}, {}])
  const { id } = await market.submit(alice, { max_price_per_hour: '5' })
  await agent.begin()
  const other = await market.machine(await market.person(), [{ price_per_hour: '5' }])
  await market.ask(admin, api.admin.suspendUser, { user_id: bob.id, reason })
  expect(await agent.next('refused')).toMatchObject({ code: 'user_suspended' })
  await agent.closed
  expect(agent.untaken('refused')).toEqual([])
  expect(await other.next('attempt.start')).toMatchObject({ task_id: id })
  await expect(market.reconnect(agent)).rejects.toThrow(/hung up/)
  await market.ask(admin, api.admin.restoreUser, { user_id: bob.id })
  const back = await market.reconnect(agent)
  expect((await market.ask(null, api.gpus.get, { gpu_id: back.gpuId })).status).toBe('available')
})

test('a suspended agent is disconnected and its GPU is offline until it is restored', async () => {
  const agent = await market.machine(bob)
  const { id } = await market.submit(alice)
  const start = await agent.begin()
  market.clock.advance(1_000)
  expect(await market.ask(admin, api.admin.suspendAgent, { agent_id: agent.id, reason })).toMatchObject({
    status: 'suspended',
    connected: false,
  })
  expect(await agent.next('refused')).toMatchObject({ code: 'agent_suspended', retry: false })
  await agent.closed
  expect((await market.ask(null, api.gpus.get, { gpu_id: agent.gpuId })).status).toBe('offline')
  const lost = await market.until(
    () => market.task(alice, id),
    ({ status }) => status === 'pending',
  )
  expect(lost.attempts).toMatchObject([{ id: start.attempt_id, status: 'lost', cost: '0' }])
  await expect(market.reconnect(agent)).rejects.toThrow(/hung up/)
  expect(await market.ask(admin, api.admin.restoreAgent, { agent_id: agent.id })).toMatchObject({ status: 'active' })
  expect((await market.reconnect(agent)).id).toBe(agent.id)
})

test('a password that was reset is shown once and works; the old one and all sessions end', async () => {
  const { password } = await market.ask(admin, api.admin.resetPassword, { user_id: alice.id })
  expect(outcome(await market.attempt(alice, api.wallet.get, {}))).toBe('401 unauthenticated')
  expect(outcome(await logIn(alice.email, testPassword))).toBe('401 invalid_credentials')
  expect(outcome(await logIn(alice.email, password))).toBe('200')
})

test('users are listed newest first and found by a part of their address', async () => {
  market.clock.advance(1)
  bob = await market.person()
  const { items } = await market.ask(admin, api.admin.users, { email: bob.email.slice(0, -4).toUpperCase() })
  expect(items).toMatchObject([{ id: bob.id, email: bob.email }])
  const [newest] = (await market.ask(admin, api.admin.users, { limit: 1 })).items
  expect(newest!.id).toBe(bob.id)
  expect(JSON.stringify(newest)).not.toMatch(/hash|password/)
})

test('what administrators decide is kept, with who and why', async () => {
  const before = (await actions()).length
  await market.ask(admin, api.admin.suspendUser, { user_id: alice.id, reason })
  await market.ask(admin, api.admin.restoreUser, { user_id: alice.id })
  await market.ask(admin, api.admin.pauseMarket, { reason })
  await market.ask(admin, api.admin.resumeMarket, {})
  await market.attempt(admin, api.admin.suspendUser, { user_id: admin.id, reason })
  expect((await actions()).slice(before)).toEqual([
    { admin_id: admin.id, action: 'user.suspend', subject: alice.id, reason },
    { admin_id: admin.id, action: 'user.restore', subject: alice.id, reason: null },
    { admin_id: admin.id, action: 'market.pause', subject: 'market', reason },
    { admin_id: admin.id, action: 'market.resume', subject: 'market', reason: null },
  ])
})

test('an administrator cannot suspend themselves, nor what does not exist', async () => {
  const suspend = (user_id: string) => market.attempt(admin, api.admin.suspendUser, { user_id, reason })
  expect(outcome(await suspend(admin.id))).toBe('403 forbidden')
  expect(outcome(await suspend(alice.id.replace(/.{4}$/, '0000')))).toBe('404 not_found')
  const agent_id = (await market.machine(bob)).id.replace(/.{4}$/, '0000')
  expect(outcome(await market.attempt(admin, api.admin.suspendAgent, { agent_id, reason }))).toBe('404 not_found')
})
