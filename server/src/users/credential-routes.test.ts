import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { outcome, startTestServer, type TestServer } from '../fixture-server.ts'

let market: TestServer
beforeAll(async () => {
  market = await startTestServer()
})
afterAll(() => market.close())

const dayMs = 86_400_000

let people = 0
const newUser = () => market.newUser(`person-${people++}@example.org`)
const me = (token: string) => market.call('GET /api/auth/me', { token })

type Listed = {
  items: { id: string; name: string; prefix: string; last_used_at: string | null; expires_at: string | null }[]
  next_cursor: string | null
}

async function newApiKey(token: string, fields: object = {}) {
  const answer = await market.call('POST /api/api-keys/', { token, body: { name: 'a key', ...fields } })
  expect(answer.status).toBe(201)
  return answer.body as { id: string; key: string; prefix: string; expires_at: string | null }
}

describe.each([
  { path: '/api/api-keys/', table: 'api_keys', secretField: 'key', pattern: /^orb_[0-9a-z]{52}$/ },
  { path: '/api/agent-tokens/', table: 'agent_tokens', secretField: 'token', pattern: /^orbagent_[0-9a-z]{52}$/ },
])('$path', ({ path, table, secretField, pattern }) => {
  const create = (token: string, body: unknown) => market.call(`POST ${path}`, { token, body })
  const list = async (token: string, query = '') => (await market.call(`GET ${path}${query}`, { token })).body as Listed

  test('a secret is shown once and stored as a hash', async () => {
    const { token } = await newUser()
    const created = await create(token, { name: ' laptop ' })
    const secret = (created.body as Record<string, string>)[secretField]!
    expect(created).toMatchObject({ status: 201, body: { name: 'laptop', last_used_at: null, expires_at: null } })
    expect(secret).toMatch(pattern)

    const { items } = await list(token)
    expect(items).toMatchObject([{ name: 'laptop', prefix: secret.slice(0, secret.indexOf('_') + 7) }])
    expect(JSON.stringify(items)).not.toContain(secret)
    const rows = await market.context.database.read((reader) => reader.all(`SELECT * FROM ${table}`))
    expect(JSON.stringify(rows)).not.toContain(secret)
  })

  test('the list comes in pages, newest first, and is one’s own', async () => {
    const [user, stranger] = [await newUser(), await newUser()]
    for (const name of ['one', 'two', 'three']) {
      market.clock.advance(1)
      await create(user.token, { name })
    }
    await create(stranger.token, { name: 'not yours' })
    const first = await list(user.token, '?limit=2')
    expect(first.items.map(({ name }) => name)).toEqual(['three', 'two'])
    const second = await list(user.token, `?limit=2&cursor=${first.next_cursor}`)
    expect(second.items.map(({ name }) => name)).toEqual(['one'])
    expect(second.next_cursor).toBeNull()
  })

  test('a cursor that the list did not give out, and a limit out of range, are refused', async () => {
    const { token } = await newUser()
    const at = (query: string) => market.call(`GET ${path}${query}`, { token })
    expect(outcome(await at('?cursor=garbage'))).toBe('400 invalid_cursor')
    expect(outcome(await at('?limit=0'))).toBe('400 invalid_request')
    expect(outcome(await at('?limit=201'))).toBe('400 invalid_request')
    expect(outcome(await at('?sort=name'))).toBe('400 invalid_request')
  })

  test.for<[what: string, body: object]>([
    ['no name', {}],
    ['an empty name', { name: '  ' }],
    ['a life of no days', { name: 'a', expires_in_days: 0 }],
    ['half a day', { name: 'a', expires_in_days: 0.5 }],
    ['an unknown field', { name: 'a', scopes: ['all'] }],
  ])('%s is refused and makes nothing', async ([, body]) => {
    const { token } = await newUser()
    expect(outcome(await create(token, body))).toBe('400 invalid_request')
    expect((await list(token)).items).toEqual([])
  })

  test('only its owner revokes it, once', async () => {
    const [user, stranger] = [await newUser(), await newUser()]
    const { id } = (await create(user.token, { name: 'laptop' })).body as { id: string }
    const revoke = (token: string, text = id) => market.call(`DELETE ${path}${text}`, { token })
    expect(outcome(await revoke(stranger.token))).toBe('404 not_found')
    expect((await list(user.token)).items).toHaveLength(1)
    expect(outcome(await revoke(user.token))).toBe('200')
    expect((await list(user.token)).items).toEqual([])
    expect(outcome(await revoke(user.token))).toBe('404 not_found')
    expect(outcome(await revoke(user.token, 'garbage'))).toBe('400 invalid_request')
  })
})

test('an API key opens what its user may do, until it is revoked', async () => {
  const user = await newUser()
  const { id, key } = await newApiKey(user.token)
  expect(await me(key)).toMatchObject({ status: 200, body: { id: user.id } })
  expect(outcome(await market.call('GET /api/admin/users', { token: key }))).not.toBe('200')
  expect(outcome(await market.call('POST /api/auth/logout', { token: key }))).toBe('403 forbidden')
  expect(outcome(await market.call(`DELETE /api/api-keys/${id}`, { token: user.token }))).toBe('200')
  expect(outcome(await me(key))).toBe('401 unauthenticated')
})

test('an API key makes no other key, so that nothing is left of one that is revoked', async () => {
  const user = await newUser()
  const { key } = await newApiKey(user.token)
  const answer = await market.call('POST /api/api-keys/', { token: key, body: { name: 'another' } })
  expect(outcome(answer)).toBe('403 forbidden')
  expect(outcome(await market.call('POST /api/agent-tokens/', { token: key, body: { name: 'a machine' } }))).toBe('201')
})

test('an API key that expires in a day works a day long', async () => {
  const { token } = await newUser()
  const { key, expires_at } = await newApiKey(token, { expires_in_days: 1 })
  expect(Date.parse(expires_at!)).toBe(market.clock.now() + dayMs)
  market.clock.advance(dayMs - 1)
  expect(outcome(await me(key))).toBe('200')
  market.clock.advance(1)
  expect(outcome(await me(key))).toBe('401 token_expired')
  expect(outcome(await me(key))).toBe('401 token_expired')
})

test('an API key says when it was last used, to the minute', async () => {
  const { token } = await newUser()
  const { key } = await newApiKey(token)
  const lastUsed = async () => {
    const { body } = await market.call('GET /api/api-keys/', { token })
    return (body as Listed).items[0]!.last_used_at
  }
  const iso = () => new Date(market.clock.now()).toISOString()
  const firstUse = iso()
  await me(key)
  await expect.poll(lastUsed).toBe(firstUse)
  market.clock.advance(59_999)
  await me(key)
  expect(await lastUsed()).toBe(firstUse)
  market.clock.advance(1)
  await me(key)
  await expect.poll(lastUsed).toBe(iso())
})

test('an agent token is no key to the API', async () => {
  const { token } = await newUser()
  const created = await market.call('POST /api/agent-tokens/', { token, body: { name: 'a machine' } })
  expect(outcome(await me((created.body as { token: string }).token))).toBe('401 unauthenticated')
})
