import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { api, problem } from '@orbyte/protocol'
import { rawRoute, route } from '@orbyte/server/http/route.ts'
import { expect, expectTypeOf, onTestFinished, test } from 'vitest'
import { type Client, createClient, logIn, logOut } from './client.ts'
import { startMarket, taskId, user, userId } from './fixture-market.ts'
import { OrbyteError } from './orbyte-error.ts'
import { pages } from './pages.ts'
import { download } from './run-task.ts'
import { memoryTokenStore } from './tokens.ts'

const fast = { firstDelayMs: 1, delayMsMax: 5 }
const orb = (micros: number) => micros as never

async function failureOf(call: Promise<unknown>): Promise<OrbyteError> {
  const error = await call.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(OrbyteError)
  return error as OrbyteError
}

test('fields travel in the path, the query and the body, and amounts are decimal strings', async () => {
  const seen: unknown[] = []
  const gpuId = 'gpu_01k00000000000000000000000'
  const market = await startMarket([
    route(api.payments.earnings, async (input) => {
      seen.push(input)
      return { items: [], total: orb(1_250_000) }
    }),
    route(api.gpus.prices, async (input) => {
      seen.push(input)
      return { items: [{ price_per_hour: orb(500_000), changed_at: user.created_at }] }
    }),
    route(api.wallet.withdraw, async (input) => {
      seen.push(input)
      return {
        balance: input.amount,
        held: orb(0),
        currency: 'ORB' as const,
        mode: 'mock' as const,
        faucet_remaining: orb(0),
      }
    }),
  ])
  const client = createClient({ url: `${market}/`, token: 'good' })
  expect(await client.payments.earnings({ from: '2026-01-01' })).toEqual({ items: [], total: '1.25' })
  expect(await client.gpus.prices({ gpu_id: gpuId })).toEqual({
    items: [{ price_per_hour: '0.5', changed_at: user.created_at }],
  })
  expect(await client.wallet.withdraw({ amount: '3.5' })).toMatchObject({ balance: '3.5' })
  expect(seen).toEqual([{ from: '2026-01-01' }, { gpu_id: gpuId }, { amount: 3_500_000 }])
})

test('the types of a call are those of the contract', () => {
  expectTypeOf<Parameters<Client['wallet']['deposit']>[0]>().toEqualTypeOf<{ amount: string }>()
  expectTypeOf<Awaited<ReturnType<Client['wallet']['get']>>['balance']>().toEqualTypeOf<string>()
  expectTypeOf<Awaited<ReturnType<Client['tasks']['file']>>>().toEqualTypeOf<Uint8Array<ArrayBuffer>>()
  expectTypeOf<Awaited<ReturnType<Client['tasks']['output']>>>().toEqualTypeOf<string>()
  expectTypeOf<Client['tasks']['list']>().toBeCallableWith()
  // @ts-expect-error: a field that the endpoint does not have
  const call = (client: Client) => client.wallet.deposit({ amount: '1', extra: true })
  expect(call).toBeTypeOf('function')
})

test('a problem document becomes an error that says what, which fields, and which request', async () => {
  const market = await startMarket([
    route(api.auth.register, async () => user),
    route(api.auth.me, async () => {
      throw problem('user_suspended', 'Your account is suspended. Write to the operator.', { since: 'today' })
    }),
  ])
  const client = createClient({ url: market, token: 'good' })
  const suspended = await failureOf(client.auth.me())
  expect(suspended).toMatchObject({ code: 'user_suspended', status: 403, details: { since: 'today' } })
  expect(suspended.message).toBe(
    `Your account is suspended. Write to the operator.\n(GET ${market}/api/auth/me → 403 user_suspended, request ${suspended.request_id})`,
  )
  const invalid = await failureOf(client.auth.register({ email: 'nonsense', password: 'short' }))
  expect(invalid.code).toBe('invalid_request')
  expect(invalid.errors.map(({ field }) => field)).toEqual(['email', 'password'])
  expect(invalid.message).toContain('\n  password: ')
})

test('dots in a path field never reach another endpoint', async () => {
  const client = createClient({ url: 'http://127.0.0.1:1', token: 'good' })
  const error = await failureOf(client.tasks.file({ task_id: taskId, name: '..' }))
  expect(error).toMatchObject({ code: 'invalid_request', status: 0 })
})

test('an expired token is renewed once for all calls that wait for it, and the new pair is told', async () => {
  const refreshed: string[] = []
  const market = await startMarket([
    route(api.auth.me, async () => user),
    route(api.auth.refresh, async ({ refresh_token }) => {
      refreshed.push(refresh_token!)
      return { access_token: 'good-2', token_type: 'bearer' as const, expires_in: 900, refresh_token: 'refresh-2' }
    }),
  ])
  const told: unknown[] = []
  const token = { access_token: 'old', refresh_token: 'refresh-1' }
  const client = createClient({ url: market, token, onTokens: (tokens) => told.push(tokens) })
  const replies = await Promise.all([client.auth.me(), client.auth.me(), client.auth.me()])
  expect(replies.map(({ id }) => id)).toEqual([userId, userId, userId])
  expect(refreshed).toEqual(['refresh-1'])
  expect(told).toMatchObject([{ access_token: 'good-2', refresh_token: 'refresh-2' }])
})

test('a token that another process has renewed is taken from the shared store, and nothing is spent', async () => {
  const market = await startMarket([route(api.auth.me, async () => user)])
  const store = memoryTokenStore({ access_token: 'old', refresh_token: 'refresh-1' })
  const shared = {
    ...store,
    async exclusively<T>(work: () => Promise<T>) {
      await store.write({ access_token: 'good-by-another', refresh_token: 'refresh-2' })
      return work()
    },
  }
  const client = createClient({ url: market, tokenStore: shared })
  expect(await client.auth.me()).toEqual(user)
})

test('a refused refresh token logs the client out, and the call fails with why it was refused', async () => {
  const market = await startMarket([
    route(api.auth.me, async () => user),
    route(api.auth.refresh, async () => {
      throw problem('token_expired', 'Log in again.')
    }),
  ])
  const told: unknown[] = []
  const token = { access_token: 'old', refresh_token: 'spent' }
  const client = createClient({ url: market, token, onTokens: (tokens) => told.push(tokens) })
  expect(await failureOf(client.auth.me())).toMatchObject({ code: 'token_expired', status: 401 })
  expect(told).toEqual([null])
})

test('logging in keeps the tokens, logging out forgets them even when the session is over already', async () => {
  const market = await startMarket([
    route(api.auth.token, async () => ({
      access_token: 'good',
      token_type: 'bearer' as const,
      expires_in: 900,
      refresh_token: 'r',
    })),
    route(api.auth.me, async () => user),
    route(api.auth.logout, async () => {
      throw problem('unauthenticated', 'No such session.')
    }),
    route(api.auth.refresh, async () => {
      throw problem('token_expired', 'This session has ended.')
    }),
  ])
  const client = createClient({ url: market })
  await logIn(client, { email: 'alice@example.org', password: 'correct horse' })
  expect(await client.auth.me()).toEqual(user)
  await logOut(client)
  expect(await failureOf(client.auth.me())).toMatchObject({ code: 'unauthenticated' })
})

/** Answers each request with the next of `statuses`, then with 200; keeps the idempotency keys. "reset" drops the connection. */
async function startUnreliable(statuses: (number | 'reset')[], headers: Record<string, string> = {}) {
  const keys: (string | undefined)[] = []
  const server = createServer((request, response) => {
    request.resume()
    keys.push(request.headers['idempotency-key'] as string | undefined)
    const status = statuses.shift() ?? 200
    if (status === 'reset') return void request.socket.destroy()
    const code = status === 429 ? 'rate_limited' : 'unavailable'
    const document = { type: '', title: '', status, detail: 'later', code, details: headers }
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(status === 200 ? { items: [], next_cursor: null } : document))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, keys }
}

test('a read is sent again after a lost connection, a busy and a full server', async () => {
  const { url, keys } = await startUnreliable(['reset', 503, 429])
  await createClient({ url, retry: fast }).tasks.list()
  expect(keys).toHaveLength(4)
})

test('a call that makes work is sent again with the same idempotency key', async () => {
  const { url, keys } = await startUnreliable(['reset', 503])
  const client = createClient({ url, token: 'good', retry: fast })
  await client.wallet.deposit({ amount: '1' })
  expect(keys).toHaveLength(3)
  expect(keys[0]).toMatch(/^[0-9a-z]{24}$/)
  expect(new Set(keys).size).toBe(1)
  await client.wallet.deposit({ amount: '1' }, { idempotencyKey: 'mine' })
  expect(keys[3]).toBe('mine')
})

test('a call whose repetition could do harm is sent once', async () => {
  const { url, keys } = await startUnreliable(['reset'])
  const error = await failureOf(
    createClient({ url, retry: fast }).auth.register({ email: 'a@b.org', password: '0123456789' }),
  )
  expect(error.code).toBe('unreachable')
  expect(keys).toEqual([undefined])
})

test('a market that asks for a longer wait than the client would have is not asked again', async () => {
  const { url, keys } = await startUnreliable([429], { retry_after_s: 60 } as never)
  expect(await failureOf(createClient({ url, retry: fast }).tasks.list())).toMatchObject({ code: 'rate_limited' })
  expect(keys).toHaveLength(1)
})

test('a server that is down, or no market, is said in a sentence', async () => {
  const down = await failureOf(createClient({ url: 'http://127.0.0.1:1', retry: fast }).health.get())
  expect(down).toMatchObject({ code: 'unreachable', status: 0 })
  expect(down.detail).toContain('Check the URL')
  const server = createServer((_request, response) => response.end('<html>hello</html>'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  expect(await failureOf(createClient({ url }).health.get())).toMatchObject({ code: 'not_a_market', status: 200 })
})

test('a signal stops a call with its own reason, and a server that never answers is given up', async () => {
  const server = createServer(() => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const controller = new AbortController()
  server.once('request', () => controller.abort(new Error('enough')))
  await expect(createClient({ url }).tasks.list({}, { signal: controller.signal })).rejects.toThrow('enough')
  const silent = createClient({ url, replyMsMax: 20, retry: { retriesMax: 0 } })
  expect(await failureOf(silent.tasks.list())).toMatchObject({ code: 'unreachable' })
})

test('text and files come as they are', async () => {
  const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => index % 251)
  const market = await startMarket([
    rawRoute(api.tasks.output, async (_input, _caller, reply) => reply.type('text/plain').send('grüße\n')),
    rawRoute(api.tasks.file, async ({ name }, _caller, reply) => {
      expect(name).toBe('image 1.png')
      return reply.type('image/png').send(Buffer.from(bytes))
    }),
  ])
  const client = createClient({ url: market, token: 'good' })
  expect(await client.tasks.output({ task_id: taskId })).toBe('grüße\n')
  const file = { url: `/api/tasks/${taskId}/files/image%201.png` }
  expect(Buffer.compare(await download(client, file), bytes)).toBe(0)
  expect(await failureOf(download(client, { url: 'https://elsewhere.example/steal' }))).toMatchObject({
    code: 'invalid_request',
  })
})

test('a stream that is given up before it is read keeps neither its connection nor a timer', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const server = createServer((_request, response) => response.write('the first of many bytes'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const closed = new Promise((resolve) =>
    server.once('request', (request) => request.socket.once('close', () => resolve('closed'))),
  )
  const controller = new AbortController()
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const client = createClient({ url, token: 'good' })
  await client.admin.backup({}, { signal: controller.signal })
  const timersBefore = timers()
  controller.abort()
  expect(timers()).toBeLessThan(timersBefore)
  expect(await closed).toBe('closed')
})

test('pages gives every item of a list and asks for the next page only when it is needed', async () => {
  const asked: (string | undefined)[] = []
  const market = await startMarket([
    route(api.apiKeys.list, async ({ cursor, limit }) => {
      expect(limit).toBe(2)
      asked.push(cursor)
      const start = Number(cursor ?? 0)
      const items = [0, 1].map((offset) => ({
        id: `key_01k0000000000000000000000${start + offset}`,
        name: String(start + offset),
        prefix: 'orb_',
        created_at: user.created_at,
        last_used_at: null,
        expires_at: null,
      }))
      return { items, next_cursor: start < 4 ? String(start + 2) : null }
    }),
  ])
  const client = createClient({ url: market, token: 'good' })
  const names: string[] = []
  for await (const { name } of pages(client.apiKeys.list, { limit: 2 })) {
    names.push(name)
    if (name === '1') expect(asked).toEqual([undefined])
  }
  expect(names).toEqual(['0', '1', '2', '3', '4', '5'])
  expect(asked).toEqual([undefined, '2', '4'])
})
