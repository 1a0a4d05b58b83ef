import { afterAll, beforeAll, expect, test } from 'vitest'
import { logIn, outcome, startTestServer, testPassword, type TestServer } from '../fixture-server.ts'

let market: TestServer
beforeAll(async () => {
  market = await startTestServer()
})
afterAll(() => market.close())

let people = 0
const newUser = () => market.newUser(`person-${people++}@example.org`)
const me = (token: string) => market.call('GET /api/auth/me', { token })

test('a person registers, logs in with the OAuth 2 form, and is who they say', async () => {
  const registered = await market.call('POST /api/auth/register', {
    body: { email: 'Ada@Example.org', password: testPassword, name: 'Ada' },
  })
  expect(registered).toMatchObject({
    status: 201,
    body: { email: 'ada@example.org', name: 'Ada', role: 'user', status: 'active' },
  })
  expect(JSON.stringify(registered.body)).not.toContain('argon2')

  const form = { grant_type: 'password', username: 'ADA@example.org', password: testPassword, scope: '' }
  const pair = await market.call('POST /api/auth/token', { form })
  expect(pair).toMatchObject({ status: 200, body: { token_type: 'bearer', expires_in: 900 } })
  const { access_token } = pair.body as { access_token: string }
  expect(await me(access_token)).toMatchObject({ status: 200, body: registered.body as object })
})

test('the same fields as JSON log in too', async () => {
  const { email } = await newUser()
  const pair = await logIn(market.call, email)
  expect(outcome(await me(pair.access_token))).toBe('200')
})

test('an email address registers once, whatever its case, also when both come at the same time', async () => {
  const register = (email: string) =>
    market.call('POST /api/auth/register', { body: { email, password: testPassword } })
  const outcomes = (await Promise.all([register('twice@example.org'), register('Twice@Example.org')])).map(outcome)
  expect(outcomes.sort()).toEqual(['201', '409 email_taken'])
  expect(outcome(await register('TWICE@example.org'))).toBe('409 email_taken')
})

const good = { email: 'good@example.org', password: testPassword }
test.for<[what: string, body: unknown, outcome: string]>([
  ['an unknown field', { ...good, role: 'admin' }, '400 invalid_request'],
  ['a short password', { ...good, password: 'ninechars' }, '400 invalid_request'],
  ['an address that is none', { ...good, email: 'nobody' }, '400 invalid_request'],
  ['a missing field', { email: good.email }, '400 invalid_request'],
  ['a name of another type', { ...good, name: 7 }, '400 invalid_request'],
  ['a list', [good], '400 invalid_request'],
  ['no JSON', '{"email":', '400 malformed_json'],
  ['a body over the limit', { ...good, name: 'x'.repeat(1_000_001) }, '413 body_too_large'],
])('registration refuses %s and stores nothing', async ([, body, expected]) => {
  expect(outcome(await market.call('POST /api/auth/register', { body }))).toBe(expected)
  const tried = await market.call('POST /api/auth/token', { body: { username: good.email, password: testPassword } })
  expect(outcome(tried)).toBe('401 invalid_credentials')
})

test('registration takes JSON only', async () => {
  const answer = await market.call('POST /api/auth/register', { form: good })
  expect(outcome(answer)).toBe('415 unsupported_media_type')
})

test('a wrong password and an unknown address get the same answer', async () => {
  const { email } = await newUser()
  const wrong = await market.call('POST /api/auth/token', { body: { username: email, password: 'something else' } })
  const unknown = await market.call('POST /api/auth/token', {
    body: { username: 'unknown@example.org', password: 'something else' },
  })
  expect(outcome(wrong)).toBe('401 invalid_credentials')
  const { request_id: _1, ...first } = wrong.body as Record<string, unknown>
  const { request_id: _2, ...second } = unknown.body as Record<string, unknown>
  expect(first).toEqual(second)
})

test('a user changes their name without and their address with the password', async () => {
  const user = await newUser()
  const other = await newUser()
  const update = (body: object) => market.call('PATCH /api/auth/me', { token: user.token, body })
  expect(await update({ name: 'Grace' })).toMatchObject({ status: 200, body: { name: 'Grace', email: user.email } })
  expect(outcome(await update({ email: 'moved@example.org' }))).toBe('400 invalid_request')
  const wrong = { email: 'moved@example.org', current_password: 'something else' }
  expect(outcome(await update(wrong))).toBe('401 invalid_credentials')
  expect(outcome(await update({ email: other.email, current_password: testPassword }))).toBe('409 email_taken')
  expect(await update({ email: 'Moved@example.org', current_password: testPassword })).toMatchObject({
    status: 200,
    body: { name: 'Grace', email: 'moved@example.org' },
  })
  expect(await update({ name: null })).toMatchObject({ body: { name: null, email: 'moved@example.org' } })
  await logIn(market.call, 'moved@example.org')
  expect(outcome(await update({ status: 'active' }))).toBe('400 invalid_request')
})

test('a new password ends all other sessions and replaces the old one', async () => {
  const user = await newUser()
  const other = await logIn(market.call, user.email)
  const change = (current_password: string) =>
    market.call('POST /api/auth/password', {
      token: user.token,
      body: { current_password, new_password: 'another long password' },
    })
  expect(outcome(await me(other.access_token))).toBe('200')
  expect(outcome(await change('something else'))).toBe('401 invalid_credentials')
  expect(outcome(await me(other.access_token))).toBe('200')

  expect(outcome(await change(testPassword))).toBe('200')
  expect(outcome(await me(user.token))).toBe('200')
  expect(outcome(await me(other.access_token))).toBe('401 unauthenticated')
  const refreshed = await market.call('POST /api/auth/refresh', { body: { refresh_token: other.refresh_token } })
  expect(outcome(refreshed)).toBe('401 unauthenticated')
  await expect(logIn(market.call, user.email)).rejects.toThrow('invalid_credentials')
  await logIn(market.call, user.email, 'another long password')
})

test('the export holds the profile, the sessions and the names of keys, and no secret', async () => {
  const user = await newUser()
  const created = await market.call('POST /api/api-keys/', { token: user.token, body: { name: 'backup script' } })
  const { key } = created.body as { key: string }
  const exported = await market.call('GET /api/auth/export', { token: user.token })
  expect(exported).toMatchObject({
    status: 200,
    body: {
      profile: { id: user.id, email: user.email },
      sessions: [{ user_agent: 'node' }],
      api_keys: [{ name: 'backup script' }],
      agent_tokens: [],
    },
  })
  const text = JSON.stringify(exported.body)
  for (const secret of [key, 'argon2', 'hash']) expect(text).not.toContain(secret)
})

test('a closed account opens to nobody and its address is free again', async () => {
  const user = await newUser()
  const created = await market.call('POST /api/api-keys/', { token: user.token, body: { name: 'a key' } })
  const { key } = created.body as { key: string }
  const close = (current_password: string) =>
    market.call('POST /api/auth/close', { token: user.token, body: { current_password } })
  expect(outcome(await close('something else'))).toBe('401 invalid_credentials')
  expect(outcome(await me(key))).toBe('200')

  expect(outcome(await close(testPassword))).toBe('200')
  for (const token of [user.token, key]) expect(outcome(await me(token))).toBe('401 unauthenticated')
  await expect(logIn(market.call, user.email)).rejects.toThrow('invalid_credentials')
  const refreshed = await market.call('POST /api/auth/refresh', { body: { refresh_token: user.refreshToken } })
  expect(outcome(refreshed)).toBe('401 unauthenticated')
  const again = await market.newUser(user.email)
  expect(again.id).not.toBe(user.id)

  const row = await market.context.database.read((reader) => reader.get('SELECT * FROM users WHERE id = ?', user.id))
  expect(row).toMatchObject({ email: null, name: null, password_hash: 'none', status: 'closed' })
})
