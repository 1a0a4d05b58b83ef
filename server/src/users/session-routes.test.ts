import { createSecretKey } from 'node:crypto'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { signOperatorToken } from '@orbyte/protocol'
import { defaultLimits } from '../config.ts'
import { logIn, outcome, startTestServer, testPassword, type TestServer } from '../fixture-server.ts'

let market: TestServer
beforeAll(async () => {
  market = await startTestServer()
})
afterAll(() => market.close())

const minuteMs = 60_000
const dayMs = 24 * 60 * minuteMs

let people = 0
const newUser = () => market.newUser(`person-${people++}@example.org`)
const me = (token: string) => market.call('GET /api/auth/me', { token })
const tryPassword = (username: string, password: string) =>
  market.call('POST /api/auth/token', { body: { username, password } })
const refresh = async (refreshToken: string) => {
  const answer = await market.call('POST /api/auth/refresh', { body: { refresh_token: refreshToken } })
  return { answer, pair: answer.body as { access_token: string; refresh_token: string } }
}

test('an access token lasts 15 minutes to the millisecond, and a refresh token gets the next one', async () => {
  const user = await newUser()
  market.clock.advance(15 * minuteMs - 1)
  expect(outcome(await me(user.token))).toBe('200')
  market.clock.advance(1)
  const expired = await me(user.token)
  expect(outcome(expired)).toBe('401 token_expired')
  expect(expired.headers.get('www-authenticate')).toBe('Bearer')

  const { answer, pair } = await refresh(user.refreshToken)
  expect(outcome(answer)).toBe('200')
  expect(outcome(await me(pair.access_token))).toBe('200')
})

test('a token that was never shown before is refused when it has expired', async () => {
  const user = await newUser()
  market.clock.advance(16 * minuteMs)
  expect(outcome(await me(user.token))).toBe('401 token_expired')
})

test('a refresh token that is used a second time ends its session, however old it is', async () => {
  const user = await newUser()
  const first = await refresh(user.refreshToken)
  const second = await refresh(first.pair.refresh_token)
  expect(outcome(await me(second.pair.access_token))).toBe('200')

  expect(outcome((await refresh(user.refreshToken)).answer)).toBe('401 unauthenticated')
  expect(outcome(await me(second.pair.access_token))).toBe('401 unauthenticated')
  expect(outcome((await refresh(second.pair.refresh_token)).answer)).toBe('401 unauthenticated')
})

test('of two refreshes at the same time one is a reuse', async () => {
  const user = await newUser()
  const both = await Promise.all([refresh(user.refreshToken), refresh(user.refreshToken)])
  expect(both.map(({ answer }) => outcome(answer)).sort()).toEqual(['200', '401 unauthenticated'])
})

test('a guess at a refresh token harms no session', async () => {
  const user = await newUser()
  for (const guess of ['garbage', `orbref_${'0'.repeat(64)}`, user.token])
    expect(outcome((await refresh(guess)).answer)).toBe('401 unauthenticated')
  expect(outcome((await refresh(user.refreshToken)).answer)).toBe('200')
})

test('a refresh token expires 30 days after its last use', async () => {
  const user = await newUser()
  market.clock.advance(29 * dayMs)
  const { pair } = await refresh(user.refreshToken)
  market.clock.advance(29 * dayMs)
  const { pair: next, answer } = await refresh(pair.refresh_token)
  expect(outcome(answer)).toBe('200')
  market.clock.advance(30 * dayMs)
  expect(outcome((await refresh(next.refresh_token)).answer)).toBe('401 token_expired')
})

test('no secret is stored as it is', async () => {
  const user = await newUser()
  const rows = await market.context.database.read((reader) =>
    reader.all('SELECT * FROM sessions JOIN users ON users.id = sessions.user_id WHERE users.id = ?', user.id),
  )
  const text = JSON.stringify(rows)
  expect(text).toContain('$argon2id$v=19$m=19456,t=2,p=1$')
  for (const secret of [user.refreshToken.slice(7, 39), user.refreshToken.slice(39), testPassword])
    expect(text).not.toContain(secret)
})

test('a logout ends this session at once and no other', async () => {
  const user = await newUser()
  const other = await logIn(market.call, user.email)
  expect(outcome(await market.call('POST /api/auth/logout', { token: user.token }))).toBe('200')
  expect(outcome(await me(user.token))).toBe('401 unauthenticated')
  expect(outcome((await refresh(user.refreshToken)).answer)).toBe('401 unauthenticated')
  expect(outcome(await me(other.access_token))).toBe('200')
})

test('a user lists their sessions and ends one', async () => {
  const user = await newUser()
  market.clock.advance(1)
  const phone = await market.call('POST /api/auth/token', {
    body: { username: user.email, password: testPassword },
    headers: { 'user-agent': 'phone' },
  })
  const { access_token } = phone.body as { access_token: string }
  const list = async () =>
    (await market.call('GET /api/auth/sessions', { token: user.token })).body as {
      items: { id: string; user_agent: string; current: boolean }[]
    }
  const { items } = await list()
  expect(items.map(({ user_agent, current }) => [user_agent, current])).toEqual([
    ['phone', false],
    ['node', true],
  ])
  const path = `DELETE /api/auth/sessions/${items[0]!.id}`
  expect(outcome(await market.call(path, { token: user.token }))).toBe('200')
  expect(outcome(await me(access_token))).toBe('401 unauthenticated')
  expect((await list()).items).toHaveLength(1)
  expect(outcome(await market.call(path, { token: user.token }))).toBe('404 not_found')
})

test("another user's session cannot be ended, nor one whose id is none", async () => {
  const [user, stranger] = [await newUser(), await newUser()]
  const sessions = await market.call('GET /api/auth/sessions', { token: user.token })
  const [{ id }] = (sessions.body as { items: [{ id: string }] }).items
  const end = (text: string) => market.call(`DELETE /api/auth/sessions/${text}`, { token: stranger.token })
  expect(outcome(await end(id))).toBe('404 not_found')
  expect(outcome(await end('sess_1'))).toBe('400 invalid_request')
  expect(outcome(await me(user.token))).toBe('200')
})

test('a session says when it was last used, to the minute', async () => {
  const user = await newUser()
  const lastUsed = async () => {
    const { body } = await market.call('GET /api/auth/sessions', { token: user.token })
    return (body as { items: [{ last_used_at: string }] }).items[0].last_used_at
  }
  const before = await lastUsed()
  market.clock.advance(minuteMs - 1)
  expect(await lastUsed()).toBe(before)
  market.clock.advance(1)
  await me(user.token)
  await expect.poll(lastUsed).not.toBe(before)
})

test('a user has at most 100 sessions: the next login ends the one that was used longest ago', async () => {
  const user = await newUser()
  for (let login = 0; login < 100; login++) {
    market.clock.advance(1)
    await logIn(market.call, user.email)
  }
  expect(outcome(await me(user.token))).toBe('401 unauthenticated')
  const { access_token } = await logIn(market.call, user.email)
  const { body } = await market.call('GET /api/auth/sessions', { token: access_token })
  expect((body as { items: unknown[] }).items).toHaveLength(100)
})

const signed = (key: string, claims: Record<string, unknown>) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(createSecretKey(Buffer.from(key)))

test('what is not a token of this market is refused', async () => {
  const { token } = await newUser()
  const nowS = market.clock.now() / 1_000
  const [header, claims, signature] = token.split('.') as [string, string, string]
  const parsed = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Record<string, unknown>
  const unsigned = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url')
  const forged = Buffer.from(JSON.stringify({ ...parsed, role: 'admin' })).toString('base64url')
  const { secretKey } = market.context.config
  const tokens = [
    'garbage',
    'orb_garbage',
    `${unsigned}.${claims}.`,
    `${header}.${forged}.${signature}`,
    await signed('another key that is long enough', parsed),
    await signed(secretKey, { ...parsed, iss: 'elsewhere' }),
    await signed(secretKey, { ...parsed, sid: undefined }),
    await signed(secretKey, { ...parsed, exp: undefined }),
    await signed(secretKey, { ...parsed, iat: nowS + 3_600 }),
  ]
  for (const wrong of tokens) expect(outcome(await me(wrong))).toBe('401 unauthenticated')
  const basic = await market.call('GET /api/auth/me', { headers: { authorization: 'Basic YTpi' } })
  expect(outcome(basic)).toBe('401 unauthenticated')
  expect(outcome(await me(await signed(secretKey, parsed)))).toBe('200')
})

test("the operator's token opens no user's endpoint and is old after 5 minutes", async () => {
  const { secretKey } = market.context.config
  const token = await signOperatorToken(secretKey, market.clock.now())
  expect(outcome(await me(token))).toBe('403 forbidden')
  expect(outcome(await me(await signOperatorToken('another key that is long', market.clock.now())))).toBe(
    '401 unauthenticated',
  )
  const nowS = Math.floor(market.clock.now() / 1_000)
  const operator = { sub: 'operator', role: 'admin', iss: 'orbyte' }
  expect(outcome(await me(await signed(secretKey, { ...operator, iat: nowS - 301, exp: nowS + 9_999 })))).toBe(
    '401 token_expired',
  )
  market.clock.advance(5 * minuteMs)
  expect(outcome(await me(token))).toBe('401 token_expired')
})

test('a stale token in the header does not stop a login', async () => {
  const user = await newUser()
  const answer = await market.call('POST /api/auth/token', {
    token: 'stale',
    body: { username: user.email, password: testPassword },
  })
  expect(outcome(answer)).toBe('200')
})

test('guesses at one password have to wait longer and longer, and the right one still gets in', async () => {
  const user = await newUser()
  for (let guess = 0; guess < 10; guess++)
    expect(outcome(await tryPassword(user.email, 'something else'))).toBe('401 invalid_credentials')
  const waits: number[] = []
  for (let guess = 0; guess < 12; guess++) {
    const refused = await tryPassword(user.email, testPassword)
    expect(outcome(refused)).toBe('429 rate_limited')
    const { details } = refused.body as { details: { retry_after_s: number } }
    expect(refused.headers.get('retry-after')).toBe(String(details.retry_after_s))
    waits.push(details.retry_after_s)
    market.clock.advance(details.retry_after_s * 1_000)
    expect(outcome(await tryPassword(user.email, 'something else'))).toBe('401 invalid_credentials')
  }
  expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])
  market.clock.advance(300_000)
  expect(outcome(await tryPassword(user.email, testPassword))).toBe('200')
  expect(outcome(await tryPassword(user.email, 'something else'))).toBe('401 invalid_credentials')
})

test('many guesses at the same time are as many failures', async () => {
  const user = await newUser()
  const guesses = await Promise.all(Array.from({ length: 30 }, () => tryPassword(user.email, 'something else')))
  const outcomes = guesses.map(outcome)
  expect(outcomes.filter((text) => text === '401 invalid_credentials')).toHaveLength(10)
  expect(outcomes.filter((text) => text === '429 rate_limited')).toHaveLength(20)
})

test('15 quiet minutes forget the failures, and an account that does not exist is throttled alike', async () => {
  for (let guess = 0; guess < 10; guess++) await tryPassword('nobody@example.org', 'something else')
  expect(outcome(await tryPassword('nobody@example.org', 'something else'))).toBe('429 rate_limited')
  market.clock.advance(15 * minuteMs)
  for (let guess = 0; guess < 10; guess++)
    expect(outcome(await tryPassword('nobody@example.org', 'something else'))).toBe('401 invalid_credentials')
})

test('the current password cannot be guessed with a stolen access token', async () => {
  const user = await newUser()
  const close = () =>
    market.call('POST /api/auth/close', { token: user.token, body: { current_password: 'something else' } })
  for (let guess = 0; guess < 10; guess++) expect(outcome(await close())).toBe('401 invalid_credentials')
  expect(outcome(await close())).toBe('429 rate_limited')
})

test('one address may try 20 logins a minute, whoever the logins are for', async () => {
  const throttled = await startTestServer({ limits: defaultLimits })
  const outcomes: string[] = []
  for (let login = 0; login < 21; login++) {
    const body = { username: `person-${login}@example.org`, password: 'something else' }
    outcomes.push(outcome(await throttled.call('POST /api/auth/token', { body })))
  }
  expect(outcomes.slice(0, 20)).toEqual(Array.from({ length: 20 }, () => '401 invalid_credentials'))
  expect(outcomes[20]).toBe('429 rate_limited')
  await throttled.close()
})
