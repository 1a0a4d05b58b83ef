import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startTestServer, type TestServer } from '@orbyte/server/fixture-server.ts'
import { systemClock } from '@orbyte/server/system-context.ts'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { savedLogin } from './cli-config.ts'
import { createTestCli, type TestCli } from './fixture-cli.ts'

let market: TestServer
const secretKey = 'a secret key for this test only'
beforeAll(async () => {
  market = await startTestServer({ secretKey })
})
afterAll(() => market.close())

const password = 'correct horse battery'
async function registered(email: string, at = market): Promise<TestCli> {
  const orbyte = createTestCli(at.url)
  const { code, stderr } = await orbyte(['register', email, '--password-stdin'], { stdin: `${password}\n` })
  if (code !== 0) throw new Error(stderr)
  return orbyte
}
const savedTokens = (orbyte: TestCli) => savedLogin(orbyte.configPath, market.url).tokens

test('registering logs in, logging out forgets the tokens, and logging in remembers the address', async () => {
  const orbyte = await registered('alice@example.org')
  expect(statSync(orbyte.configPath).mode & 0o777).toBe(0o600)
  expect((await orbyte(['whoami'])).stdout).toContain('Email    alice@example.org\n')
  expect(savedTokens(orbyte)).toBeDefined()
  expect(await orbyte(['logout'])).toMatchObject({ code: 0, stdout: `Logged out at ${market.url}.\n` })
  expect(savedTokens(orbyte)).toBeUndefined()
  const refused = await orbyte(['whoami'])
  expect(refused.code).toBe(3)
  expect(refused.stderr).toContain('orbyte login')
  expect(await orbyte(['login', '--password-stdin'], { stdin: password })).toMatchObject({ code: 0 })
  expect((await orbyte.json(['whoami'])).email).toBe('alice@example.org')
})

test('a wrong password and a taken address are said, with exit codes for scripts', async () => {
  const orbyte = createTestCli(market.url)
  await registered('bob@example.org')
  const wrong = await orbyte(['login', 'bob@example.org', '--password-stdin'], { stdin: 'something else' })
  expect(wrong).toMatchObject({ code: 3, stdout: '' })
  const taken = await orbyte(['register', 'bob@example.org', '--password-stdin', '--json'], { stdin: password })
  expect(taken).toMatchObject({ code: 1, stdout: '' })
  expect(JSON.parse(taken.stderr)).toMatchObject({ code: 'email_taken', status: 409, exit_code: 1 })
})

test('without a terminal a password is asked for nowhere', async () => {
  const { code, stderr } = await createTestCli(market.url)(['login', 'x@example.org'])
  expect(code).toBe(2)
  expect(stderr).toContain('--password-stdin')
})

test('an access token that has expired is renewed, once for all commands that run at the same time', async () => {
  const orbyte = await registered('carol@example.org')
  const before = savedTokens(orbyte)?.access_token
  market.clock.advance(market.context.config.accessTokenMs + 1_000)
  const results = await Promise.all([1, 2, 3].map(() => orbyte(['whoami'])))
  expect(results.map(({ code, stderr }) => ({ code, stderr }))).toEqual(Array(3).fill({ code: 0, stderr: '' }))
  expect(savedTokens(orbyte)?.access_token).not.toBe(before)
  expect((await orbyte(['whoami'])).code).toBe(0)
})

test('an API key works from the environment and from a login, and stops working when it is revoked', async () => {
  const orbyte = await registered('dora@example.org')
  const created = await orbyte(['keys', 'create', 'laptop'])
  const key = created.stdout.trim()
  expect(created.stderr).toContain('not shown again')
  const other = createTestCli(market.url)
  expect((await other(['whoami', '--json'], { env: { ORBYTE_TOKEN: key } })).stdout).toContain('dora@example.org')
  expect((await other(['login', '--key-stdin'], { stdin: `${key}\n` })).stdout).toContain('dora@example.org')
  const [{ id }] = (await orbyte.json(['keys'])).items as unknown as [{ id: string }]
  expect((await orbyte(['keys', 'revoke', id])).code).toBe(0)
  expect(await other(['whoami'], { env: { ORBYTE_TOKEN: key } })).toMatchObject({ code: 3 })
  expect((await orbyte(['keys'])).stderr).toContain('orbyte keys create NAME')
})

test('a password is changed, sessions are seen and ended, and an account is exported and closed', async () => {
  const here = await registered('frank@example.org')
  const there = createTestCli(market.url)
  await there(['login', 'frank@example.org', '--password-stdin'], { stdin: password })
  const [theirs] = (await here.json(['account', 'sessions'])).items.filter(({ current }) => !current)
  expect((await here(['account', 'end-session', theirs!.id!])).code).toBe(0)
  expect((await there(['whoami'])).code).toBe(3)

  const stdin = `${password}\na better password\n`
  expect((await here(['account', 'password', '--password-stdin'], { stdin: `${password}\n` })).code).toBe(2)
  expect((await here(['account', 'password', '--password-stdin'], { stdin })).code).toBe(0)
  expect(await there(['login', 'frank@example.org', '--password-stdin'], { stdin: password })).toMatchObject({
    code: 3,
  })
  expect((await here(['account', 'set', '--name', 'Frank'])).stdout).toContain('Frank, frank@example.org')
  expect((await here(['account', 'set'])).code).toBe(2)
  expect(JSON.stringify(await here.json(['account', 'export']))).toContain('"name":"Frank"')
  const closed = await here(['account', 'close', '--password-stdin'], { stdin: 'a better password' })
  expect(closed.stdout).toContain('Your account is closed')
  expect((await here(['whoami'])).code).toBe(3)
})

test('money comes from the faucet, can be seen and taken out, and is missed with its own exit code', async () => {
  const orbyte = await registered('erin@example.org')
  expect((await orbyte(['wallet'])).stderr).toContain('orbyte wallet deposit')
  expect((await orbyte(['wallet', 'deposit', '2.5'])).stdout).toContain('Balance  2.5 ORB')
  expect((await orbyte.json(['wallet', 'withdraw', '1'])).balance).toBe('1.5')
  expect(await orbyte(['wallet', 'withdraw', '9'])).toMatchObject({ code: 4 })
  expect(await orbyte(['wallet', 'deposit', '1,50'])).toMatchObject({ code: 2 })
  const transfers = await orbyte(['wallet', 'transfers'])
  expect(transfers.stdout.split('\n').map((line) => line.trim().split(/ {2,}/)[2])).toEqual([
    'KIND',
    'withdrawal',
    'deposit',
    undefined,
  ])
  expect((await orbyte.json(['wallet', 'transfers', '--limit', '1'])).items).toHaveLength(1)
})

test('the first administrator is made with the market’s secret key, and acts by logging in', async () => {
  // An operator's token holds for minutes of the real time.
  const real = await startTestServer({ secretKey }, { clock: systemClock })
  onTestFinished(() => real.close())
  const orbyte = createTestCli(real.url)
  const args = ['admin', 'create', 'root@example.org', '--password-stdin']
  const lost = await orbyte(args, { stdin: password })
  expect(lost.code).toBe(2)
  expect(lost.stderr).toContain('SECRET_KEY')
  expect(await orbyte(args, { stdin: password, env: { SECRET_KEY: 'another secret key altogether' } })).toMatchObject({
    code: 3,
  })
  writeFileSync(join(orbyte.folder, 'orbyte.db.secret'), `${secretKey}\n`)
  expect((await orbyte(args, { stdin: password })).stdout).toContain('root@example.org is an administrator')
  await orbyte(['login', 'root@example.org', '--password-stdin'], { stdin: password })
  const victim = await registered('mallory@example.org', real)
  const [{ id }] = (await orbyte.json(['admin', 'users', '--email', 'mallory'])).items as unknown as [{ id: string }]
  expect((await orbyte(['admin', 'suspend', id, 'sells what is not there'])).stdout).toBe(`${id} is suspended.\n`)
  expect((await victim(['whoami'])).code).not.toBe(0)
  expect((await orbyte(['admin', 'restore', id])).stdout).toBe(`${id} is active.\n`)
  expect((await orbyte(['admin', 'pause', 'moving'])).code).toBe(0)
  expect((await orbyte(['admin', 'resume', '--json'])).stdout).toContain('"paused": false')
  expect((await orbyte(['admin', 'log'])).stdout).toMatch(/user\.suspend +user_\w+ +sells what is not there/)
  expect((await (await registered('nobody@example.org', real))(['admin', 'users'])).code).toBe(1)
})
