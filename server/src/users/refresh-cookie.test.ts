import { afterAll, beforeAll, expect, test } from 'vitest'
import { outcome, startTestServer, testPassword, type TestServer } from '../fixture-server.ts'

let market: TestServer
beforeAll(async () => {
  market = await startTestServer()
})
afterAll(() => market.close())

let people = 0
/** A page that has logged in: its access token, and what the browser keeps. */
async function page() {
  const { email } = await market.newUser(`page-${people++}@example.org`)
  const answer = await market.call('POST /api/auth/token', {
    body: { username: email, password: testPassword, in_cookie: true },
  })
  return { answer, ...loginOf(answer) }
}
function loginOf({ headers, body }: Awaited<ReturnType<TestServer['call']>>) {
  const header = headers.get('set-cookie') ?? ''
  const { access_token, refresh_token } = body as { access_token: string; refresh_token: string | null }
  return { header, cookie: header.split(';')[0]!, token: access_token, refresh_token }
}
const renew = (cookie: string, headers: Record<string, string> = {}) =>
  market.call('POST /api/auth/refresh', { body: {}, headers: { cookie, ...headers } })
const me = (token: string) => market.call('GET /api/auth/me', { token })

test('a page’s refresh token is in a cookie that scripts cannot read, and in no reply', async () => {
  const { header, refresh_token, token } = await page()
  expect(header).toMatch(/^orbyte_refresh=\w+; Path=\/api\/auth; Max-Age=2592000; HttpOnly; SameSite=Strict$/)
  expect(refresh_token).toBeNull()
  expect(outcome(await me(token))).toBe('200')
})

test('the cookie renews the login, and is replaced', async () => {
  const first = await page()
  const second = loginOf(await renew(first.cookie))
  expect(second.cookie).not.toBe(first.cookie)
  expect(second.refresh_token).toBeNull()
  expect(outcome(await me(second.token))).toBe('200')
})

test('pages that renew at the same time, or again because the answer was lost, get the same', async () => {
  const { cookie } = await page()
  const logins = (await Promise.all([renew(cookie), renew(cookie), renew(cookie)])).map(loginOf)
  const again = loginOf(await renew(cookie))
  expect(new Set([...logins, again].map((login) => login.cookie)).size).toBe(1)
  expect(outcome(await me(again.token))).toBe('200')
  expect(outcome(await renew(again.cookie))).toBe('200')
})

test('a cookie that was exchanged half a minute ago, or twice over, is a copy: its session ends', async () => {
  const old = await page()
  const next = loginOf(await renew(old.cookie))
  market.clock.advance(30_000)
  expect(outcome(await renew(old.cookie))).toBe('401 unauthenticated')
  expect(outcome(await renew(next.cookie))).toBe('401 unauthenticated')
  const first = await page()
  const second = loginOf(await renew(first.cookie))
  await renew(second.cookie)
  expect(outcome(await renew(first.cookie))).toBe('401 unauthenticated')
})

test.for<Record<string, string>>([
  { 'sec-fetch-site': 'cross-site' },
  { 'sec-fetch-site': 'same-site' },
  { origin: 'http://127.0.0.1:1' },
  { origin: 'null' },
])('a page of another origin cannot spend the cookie: %o', async (headers) => {
  const { cookie } = await page()
  expect(outcome(await renew(cookie, headers))).toBe('403 forbidden')
  expect(outcome(await renew(cookie, { 'sec-fetch-site': 'same-origin', origin: market.url }))).toBe('200')
})

test('without a cookie there is nothing to renew', async () => {
  expect(outcome(await renew('other=1'))).toBe('400 invalid_request')
})

test('logging out takes the cookie away', async () => {
  const { token, cookie } = await page()
  const answer = await market.call('POST /api/auth/logout', { token, body: {} })
  expect(answer.headers.get('set-cookie')).toMatch(/^orbyte_refresh=; .*Max-Age=0;/)
  expect(outcome(await renew(cookie))).toBe('401 unauthenticated')
})
