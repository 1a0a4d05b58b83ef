import { afterAll, beforeAll, expect, test } from 'vitest'
import { problem } from '@orbyte/protocol'
import { startTestServer, type TestServer } from '../fixture-server.ts'
import type { Caller } from '../http/route.ts'
import { type AccountService, createAccountService } from './account-service.ts'
import { type AuthenticationService, createAuthenticationService } from './authentication-service.ts'
import { createCredentialService, type CredentialService } from './credential-service.ts'
import { createPasswords, type Passwords } from './password.ts'
import { createUserService, type UserService } from './user-service.ts'

// What other features use of this one, on the database of a running market.

let market: TestServer
let passwords: Passwords
let authentication: AuthenticationService
let users: UserService
let accounts: AccountService
let credentials: CredentialService
beforeAll(async () => {
  market = await startTestServer()
  passwords = createPasswords(market.context)
  authentication = createAuthenticationService(market.context)
  users = createUserService(market.context, authentication)
  accounts = createAccountService(market.context, { users, passwords })
  credentials = createCredentialService(market.context, authentication)
})
afterAll(() => market.close())

let people = 0
const newUser = () => market.newUser(`person-${people++}@example.org`)
const inTransaction = <T>(work: Parameters<typeof market.context.database.transaction<T>>[0]) =>
  market.context.database.transaction(work)
const isActive = (userId: string) => market.context.database.read((reader) => users.isActive(reader, userId))
const setStatus = (userId: string, status: 'active' | 'suspended') =>
  inTransaction((tx) => users.setStatus(tx, userId, { status, reason: 'a reason' }))
const callerOf = (userId: string): Caller => {
  return { userId, role: 'user', sessionId: 'sess_1', userAgent: null, idempotency: null }
}
const newAgentToken = async (userId: string, fields: object = {}) =>
  credentials.createAgentToken(callerOf(userId), { name: 'a machine', ...fields })

test('a suspension is in force at once, for requests, keys and agent tokens, and so is its end', async () => {
  const user = await newUser()
  const { key } = await credentials.createApiKey(callerOf(user.id), { name: 'a key' })
  const { token } = await newAgentToken(user.id)
  const heard: unknown[] = []
  users.onStatusChanged((userId, status) => heard.push([userId, status]))
  for (const credential of [user.token, key])
    expect(await authentication.authenticate(credential)).toMatchObject({ userId: user.id, role: 'user' })

  expect(await setStatus(user.id, 'suspended')).toMatchObject({ id: user.id, status: 'suspended' })
  for (const credential of [user.token, key])
    await expect(authentication.authenticate(credential)).rejects.toMatchObject({ code: 'user_suspended' })
  expect(await credentials.verifyAgentToken(token)).toBeNull()
  expect(await isActive(user.id)).toBe(false)

  await setStatus(user.id, 'active')
  for (const credential of [user.token, key])
    expect(await authentication.authenticate(credential)).toMatchObject({ userId: user.id })
  expect(await credentials.verifyAgentToken(token)).toMatchObject({ userId: user.id })
  expect(heard).toEqual([
    [user.id, 'suspended'],
    [user.id, 'active'],
  ])
})

test('a suspended user neither logs in nor refreshes, and is told so only with the right password', async () => {
  const user = await newUser()
  await setStatus(user.id, 'suspended')
  const login = (password: string) => market.call('POST /api/auth/token', { body: { username: user.email, password } })
  expect(await login(user.password)).toMatchObject({ status: 403, body: { code: 'user_suspended' } })
  expect(await login('something else')).toMatchObject({ status: 401, body: { code: 'invalid_credentials' } })
  const refreshed = await market.call('POST /api/auth/refresh', { body: { refresh_token: user.refreshToken } })
  expect(refreshed).toMatchObject({ status: 403, body: { code: 'user_suspended' } })
})

test('a suspension that meets a request on its way is not forgotten', async () => {
  const user = await newUser()
  for (let turn = 0; turn < 20; turn++) {
    await Promise.allSettled([
      authentication.authenticate(user.token),
      setStatus(user.id, 'suspended'),
      authentication.authenticate(user.token),
    ])
    await expect(authentication.authenticate(user.token)).rejects.toMatchObject({ code: 'user_suspended' })
    await setStatus(user.id, 'active')
  }
})

test('a status that is rolled back changes nothing', async () => {
  const user = await newUser()
  await authentication.authenticate(user.token)
  const heard: unknown[] = []
  users.onStatusChanged((userId) => heard.push(userId))
  const failing = inTransaction(async (tx) => {
    await users.setStatus(tx, user.id, { status: 'suspended', reason: null })
    throw new RangeError('the transaction fails')
  })
  await expect(failing).rejects.toThrow(RangeError)
  expect(await authentication.authenticate(user.token)).toMatchObject({ userId: user.id })
  expect(heard).toEqual([])
})

test('an administrator is made with a role, and their address is as unique as any', async () => {
  const passwordHash = await passwords.hash('correct horse battery')
  const account = { email: ' Root@Example.org', name: null, role: 'admin' as const, passwordHash }
  const made = await inTransaction((tx) => users.create(tx, account))
  expect(made).toMatchObject({ email: 'root@example.org', role: 'admin', status: 'active' })
  const again = inTransaction((tx) => users.create(tx, account))
  await expect(again).rejects.toMatchObject({ code: 'email_taken' })

  const login = await market.call('POST /api/auth/token', {
    body: { username: 'root@example.org', password: 'correct horse battery' },
  })
  const { access_token } = login.body as { access_token: string }
  expect(await authentication.authenticate(access_token)).toMatchObject({ userId: made.id, role: 'admin' })
})

test('a password that is set for a user ends all their sessions', async () => {
  const user = await newUser()
  await authentication.authenticate(user.token)
  const password = passwords.generate()
  expect(password).toMatch(/^[0-9a-z]{24}$/)
  const passwordHash = await passwords.hash(password)
  await inTransaction((tx) => users.setPassword(tx, user.id, { passwordHash }))
  await expect(authentication.authenticate(user.token)).rejects.toMatchObject({ code: 'unauthenticated' })
  const login = await market.call('POST /api/auth/token', { body: { username: user.email, password } })
  expect(login.status).toBe(200)
})

test('users are found by id, and listed newest first by a part of their address', async () => {
  const names = ['needle-a@example.org', 'needle-b@example.org', 'needle-c@example.org', 'under_score@example.org']
  for (const email of names) {
    market.clock.advance(1)
    await market.newUser(email)
  }
  const first = await users.list({ limit: 2, email: 'NEEDLE' })
  expect(first.items.map(({ email }) => email)).toEqual(['needle-c@example.org', 'needle-b@example.org'])
  const second = await users.list({ limit: 2, email: 'needle', cursor: first.next_cursor! })
  expect(second).toMatchObject({ items: [{ email: 'needle-a@example.org' }], next_cursor: null })
  expect((await users.list({ limit: 9, email: 'R_S' })).items).toHaveLength(1)
  const found = await market.context.database.read((reader) => users.find(reader, first.items[0]!.id))
  expect(found).toEqual(first.items[0])
  expect(await market.context.database.read((reader) => users.find(reader, 'user_nobody'))).toBeNull()
})

test('nobody can be suspended who is not there', async () => {
  await expect(setStatus('user_nobody', 'suspended')).rejects.toMatchObject({ code: 'not_found' })
})

test('an agent token says whose machine it is until it expires or is revoked', async () => {
  const user = await newUser()
  const { id, token } = await newAgentToken(user.id, { expires_in_days: 1 })
  expect(await credentials.verifyAgentToken(token)).toEqual({ userId: user.id, agentTokenId: id })
  for (const wrong of ['', 'garbage', user.token]) expect(await credentials.verifyAgentToken(wrong)).toBeNull()
  const lastUsed = async () =>
    (await credentials.list('agentToken', callerOf(user.id), { limit: 1 })).items[0]!.last_used_at
  await expect.poll(lastUsed).toBe(new Date(market.clock.now()).toISOString())

  market.clock.advance(86_400_000)
  expect(await credentials.verifyAgentToken(token)).toBeNull()
  const other = await newAgentToken(user.id)
  await credentials.revoke('agentToken', callerOf(user.id), other.id)
  expect(await credentials.verifyAgentToken(other.token)).toBeNull()
})

test('a feature adds its part to the export, and can refuse that an account closes', async () => {
  const user = await newUser()
  accounts.contribute('purrs', async (reader, userId) => [{ userId, active: await users.isActive(reader, userId) }])
  expect(await accounts.export(callerOf(user.id))).toMatchObject({ purrs: [{ userId: user.id, active: true }] })

  let owes = true
  accounts.onClose(async () => {
    if (owes) throw problem('account_has_obligations', 'End your tasks first.')
  })
  const refused = accounts.close(callerOf(user.id), user.password)
  await expect(refused).rejects.toMatchObject({ code: 'account_has_obligations' })
  expect(await accounts.me(callerOf(user.id))).toMatchObject({ email: user.email, status: 'active' })
  expect(await authentication.authenticate(user.token)).toMatchObject({ userId: user.id })

  owes = false
  await accounts.close(callerOf(user.id), user.password)
  expect(await accounts.me(callerOf(user.id))).toMatchObject({ email: '', name: null, status: 'closed' })
  await expect(setStatus(user.id, 'active')).rejects.toMatchObject({ code: 'not_found' })
})
