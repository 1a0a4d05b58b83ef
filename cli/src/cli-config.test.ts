import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { configTokenStore, keepLogin, readConfig, readEnvironment, savedLogin, writeConfig } from './cli-config.ts'

let path: string
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'orbyte-config-'))
  path = join(folder, 'deep', 'config.json')
  return () => rmSync(folder, { recursive: true, force: true })
})
const url = 'http://127.0.0.1:8000'
const tokens = { access_token: 'a', refresh_token: 'r' }

test('the config file lies where each system keeps such files, unless a variable says otherwise', () => {
  expect(readEnvironment({ HOME: '/home/alice' }, 'linux').configPath).toBe('/home/alice/.config/orbyte/config.json')
  expect(readEnvironment({ HOME: '/h', XDG_CONFIG_HOME: '/x' }, 'linux').configPath).toBe('/x/orbyte/config.json')
  expect(readEnvironment({ HOME: 'C:\\a', APPDATA: 'C:\\r' }, 'win32').configPath).toBe('C:\\r\\orbyte\\config.json')
  expect(readEnvironment({ HOME: '/h', ORBYTE_CONFIG: '/c.json' }, 'linux').configPath).toBe('/c.json')
})

test('NO_COLOR and FORCE_COLOR are heard, and empty variables count as not set', () => {
  expect(readEnvironment({ NO_COLOR: '1', FORCE_COLOR: '1' }).colour).toBe(false)
  expect(readEnvironment({ NO_COLOR: '', FORCE_COLOR: '1' }).colour).toBe(true)
  expect(readEnvironment({ ORBYTE_URL: '' })).toMatchObject({ colour: null, url: null })
})

test('what is kept is readable by its owner only', async () => {
  await keepLogin(path, url, { tokens })
  expect(readConfig(path)).toEqual({ url, logins: { [url]: { tokens } } })
  expect(statSync(path).mode & 0o777).toBe(0o600)
})

test('tokens are for the market that gave them, and are shown to no other', async () => {
  await configTokenStore(path, url).write(tokens)
  expect(await configTokenStore(path, url).read()).toEqual(tokens)
  expect(await configTokenStore(path, 'https://elsewhere.example').read()).toBe(null)
  await configTokenStore(path, url).write(null)
  expect(await configTokenStore(path, url).read()).toBe(null)
})

test('whoever is logged in at several markets stays so at each, and the last one is asked', async () => {
  const other = 'https://elsewhere.example'
  await configTokenStore(path, url).write(tokens)
  await keepLogin(path, url, { email: 'alice@example.org' })
  await configTokenStore(path, other).write({ access_token: 'b', refresh_token: null })
  expect(readConfig(path).url).toBe(other)
  expect(savedLogin(path, url)).toEqual({ email: 'alice@example.org', tokens })
  expect(savedLogin(path, other).tokens?.access_token).toBe('b')
})

test('a damaged config file is said, not overwritten', () => {
  const damaged = join(path, '..', '..', 'config.json')
  writeFileSync(damaged, '{"url":')
  expect(() => readConfig(damaged)).toThrow('log in again')
})

test('only one of those who share the tokens renews them at a time', async () => {
  let running = 0
  let runningMax = 0
  const work = async () => {
    runningMax = Math.max(runningMax, ++running)
    await new Promise((resolve) => setImmediate(resolve))
    running--
  }
  await Promise.all(Array.from({ length: 5 }, () => configTokenStore(path, url).exclusively(work)))
  expect(runningMax).toBe(1)
})

test('a lock whose holder is gone stops nobody', async () => {
  await writeConfig(path, {})
  // No process has this number: it is above the largest that Linux, macOS and Windows give.
  writeFileSync(`${path}.lock`, '2147483646')
  let ran = false
  await configTokenStore(path, url).exclusively(async () => {
    ran = true
  })
  expect(ran).toBe(true)
  onTestFinished(() => rmSync(`${path}.lock`, { force: true }))
})
