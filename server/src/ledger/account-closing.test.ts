import { afterEach, beforeEach, expect, test } from 'vitest'
import { outcome, startTestServer, type TestServer, type TestUser } from '../fixture-server.ts'

let server: TestServer
let user: TestUser
beforeEach(async () => {
  server = await startTestServer()
  user = await server.newUser('alice@example.org')
})
afterEach(() => server.close())

const close = () =>
  server.call('POST /api/auth/close', { token: user.token, body: { current_password: user.password } })

test('an account with money on it cannot be closed; once that is withdrawn, it can', async () => {
  await server.call('POST /api/wallet/deposit', { token: user.token, body: { amount: '5' } })
  const refused = await close()
  expect(outcome(refused)).toBe('409 account_has_obligations')
  expect((refused.body as { detail: string }).detail).toContain('5 ORB is in your wallet')
  await server.call('POST /api/wallet/withdraw', { token: user.token, body: { amount: '5' } })
  expect(outcome(await close())).toBe('200')
})

test('an export holds the wallet, payments and tasks, with amounts as on the wire', async () => {
  await server.call('POST /api/wallet/deposit', { token: user.token, body: { amount: '2.5' } })
  const { body } = await server.call('GET /api/auth/export', { token: user.token })
  expect(body).toMatchObject({
    wallet: { balance: '2.5', held: '0', transfers: [{ kind: 'deposit', amount: '2.5' }] },
    payments: [],
    tasks: [],
  })
})
