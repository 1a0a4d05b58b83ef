import { afterEach, describe, expect, test } from 'vitest'
import { defaultLimits } from '../config.ts'
import { outcome, startTestServer, type TestServer } from '../fixture-server.ts'
import { callerNetwork, clientAddress } from './client-address.ts'

describe('a call comes from', () => {
  const from = (forwarded: string | undefined, proxies: number) =>
    clientAddress({ headers: { 'x-forwarded-for': forwarded }, socket: { remoteAddress: '10.0.0.1' } }, proxies)

  test('whoever is connected, where no proxy is ours', () => {
    expect(from('1.1.1.1', 0)).toBe('10.0.0.1')
  })
  test('the address that our proxy saw, whatever its caller claims', () => {
    expect(from('6.6.6.6, 2.2.2.2', 1)).toBe('2.2.2.2')
    expect(from('6.6.6.6,3.3.3.3, 2.2.2.2', 2)).toBe('3.3.3.3')
  })
  test('the outermost that is known, where there are fewer proxies than we trust', () => {
    expect(from('2.2.2.2', 3)).toBe('2.2.2.2')
    expect(from(undefined, 1)).toBe('10.0.0.1')
  })
})

test.for([
  ['203.0.113.7', '203.0.113.7'],
  ['::ffff:203.0.113.7', '203.0.113.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:0db8:0001:0002:ffff::1', '2001:db8:1:2::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['unknown', 'unknown'],
] as const)('%s counts as %s', ([address, network]) => {
  expect(callerNetwork(address)).toBe(network)
})

describe('the limit on logins is one address’s', () => {
  let server: TestServer
  afterEach(() => server.close())
  const start = async (trustedProxies: number) =>
    (server = await startTestServer({ trustedProxies, limits: { ...defaultLimits, callsPerMinuteMax: 0 } }))
  const logIn = (username: string, options: { headers?: Record<string, string>; token?: string }) =>
    server.call('POST /api/auth/token', { body: { username, password: 'a wrong one' }, ...options })

  /** How many of 25 logins are looked at. */
  async function lookedAt(options: (index: number) => Parameters<typeof logIn>[1]): Promise<number> {
    let count = 0
    for (let index = 0; index < 25; index++)
      if (outcome(await logIn(`person-${index}@example.org`, options(index))) === '401 invalid_credentials') count++
    return count
  }

  test('also where it claims to be a proxy for others', async () => {
    await start(1)
    const forwarded = (index: number) => ({ headers: { 'x-forwarded-for': `6.6.6.${index}, 2.2.2.2` } })
    expect(await lookedAt(forwarded)).toBe(20)
    expect(outcome(await logIn('other@example.org', { headers: { 'x-forwarded-for': '3.3.3.3' } }))).toMatch(/^401/)
  })

  test('and its whole network’s, where it has a network of 64 bits', async () => {
    await start(1)
    expect(await lookedAt((index) => ({ headers: { 'x-forwarded-for': `2001:db8::${index}` } }))).toBe(20)
  })

  test('also where it shows tokens of accounts of its own', async () => {
    await start(0)
    const tokens = [undefined, (await server.newUser('own@example.org')).token]
    // Making the account was a login, too.
    expect(await lookedAt((index) => ({ token: tokens[index % 2] }))).toBe(19)
  })
})
