import { join } from 'node:path'
import { DatabaseSync } from '@photostructure/sqlite'
import { expect, test } from 'vitest'
import { createTestCli } from './fixture-cli.ts'

test('the ledger of a market that runs or has stopped can be checked offline, and a changed one is found out', async () => {
  const orbyte = createTestCli('http://127.0.0.1:1')
  const market = orbyte.start(['serve', '--port', '0', '--database', 'market.db'])
  const url = (await market.says(/a market at (http:\S+),/, 'stdout'))[1]!
  const env = { ORBYTE_URL: url }
  const stdin = 'correct horse battery'
  expect((await orbyte(['register', 'alice@example.org', '--password-stdin'], { stdin, env })).code).toBe(0)
  expect((await orbyte(['wallet', 'deposit', '5'], { env })).code).toBe(0)
  expect(await orbyte(['ledger', 'verify', 'market.db'])).toMatchObject({ code: 0 })
  market.signal('SIGTERM')
  expect((await market.ended).code).toBe(0)

  const sound = await orbyte(['ledger', 'verify', 'market.db'])
  expect(sound).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('The ledger is sound: 1 transfer in 1 batches'),
  })
  const database = new DatabaseSync(join(orbyte.folder, 'market.db'))
  database.exec('UPDATE transfers SET amount_micros = amount_micros + 1')
  database.close()
  const changed = await orbyte(['ledger', 'verify', 'market.db', '--json'])
  expect(changed.code).toBe(1)
  expect(JSON.parse(changed.stdout)).toMatchObject({
    ok: false,
    problems: expect.arrayContaining([expect.stringContaining('changed')]),
  })
})

test('what is neither a receipt nor a database is said', async () => {
  const orbyte = createTestCli('http://127.0.0.1:1')
  expect(await orbyte(['ledger', 'verify', 'missing.json'])).toMatchObject({ code: 2 })
})

test('a market that is down ends a command with 6 and says how to get one', async () => {
  const orbyte = createTestCli('http://127.0.0.1:1')
  const { code, stdout, stderr } = await orbyte(['gpus'])
  expect({ code, stdout }).toEqual({ code: 6, stdout: '' })
  expect(stderr).toContain('orbyte serve')
})

test('usage errors end with 2, help with 0, and every command has help', async () => {
  const orbyte = createTestCli('http://127.0.0.1:1')
  expect(await orbyte(['gpus', 'nonsense'])).toMatchObject({ code: 2 })
  expect(await orbyte(['wallet', 'deposit', 'much'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('like 0.50'),
  })
  expect(await orbyte(['--url', 'nonsense', 'gpus'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('http://127.0.0.1:8000'),
  })
  const { code, stdout } = await orbyte(['--help'])
  expect(code).toBe(0)
  expect(stdout).toMatch(/Exit codes:\n +0 +it worked/)
  const commands =
    'run tasks models agent gpus register login logout whoami account wallet payments keys tokens serve admin ledger backup restore'.split(
      ' ',
    )
  for (const command of commands) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'))
  const { stdout: listHelp } = await orbyte(['gpus', 'list', '--help'])
  for (const option of ['--url', '--json', '--no-color']) expect(listHelp).toMatch(new RegExp(`^  ${option} `, 'm'))
})
