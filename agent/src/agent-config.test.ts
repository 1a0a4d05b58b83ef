import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { agentFlags, agentFlagsHelp, loadAgentOptions, UsageError } from './agent-config.ts'

const folder = await mkdtemp(join(tmpdir(), 'orbyte-config-'))
afterAll(() => rm(folder, { recursive: true }))

test('an agent needs no options at all', () => {
  expect(loadAgentOptions([], {})).toMatchObject({
    server: 'http://127.0.0.1:8000',
    token: null,
    offerCpu: false,
    emulatedGpus: [],
    openai: null,
    limits: { taskTypes: null, models: null, minPricePerHour: null, hours: null, runMsMax: null },
    drainMsMax: 600_000,
    timeScale: 1,
  })
})

test('flags are read, and win over the environment', () => {
  const args = '--server https://market.example/ --price 0.5 --cpu --max-run 30m --task-types embedding,other'.split(
    ' ',
  )
  const options = loadAgentOptions([...args, '--emulate', 'RTX 4090:24x2', '--emulate', 'H100:80'], {
    ORBYTE_SERVER: 'http://elsewhere:1',
    ORBYTE_REGION: 'eu-west',
    ORBYTE_OPENAI_URL: 'http://localhost:11434/v1',
  })
  expect(options).toMatchObject({
    server: 'https://market.example',
    region: 'eu-west',
    pricePerHour: '0.5',
    offerCpu: true,
    openai: { baseUrl: 'http://localhost:11434/v1', apiKey: null },
    limits: { taskTypes: ['embedding', 'other'], runMsMax: 1_800_000 },
  })
  expect(options.emulatedGpus).toEqual([
    { model: 'RTX 4090', vramGb: 24, count: 2 },
    { model: 'H100', vramGb: 80, count: 1 },
  ])
})

test('the market of the other commands is the agent’s too', () => {
  expect(loadAgentOptions([], { ORBYTE_URL: 'http://market:1' }).server).toBe('http://market:1')
  const both = { ORBYTE_URL: 'http://market:1', ORBYTE_SERVER: 'http://market:2' }
  expect(loadAgentOptions([], both).server).toBe('http://market:2')
})

test('for a trial on a market whose times are scaled, the agent’s are too', () => {
  expect(loadAgentOptions([], { TIME_SCALE: '0.1' }).timeScale).toBe(0.1)
  expect(loadAgentOptions(['--time-scale', '0.5'], { TIME_SCALE: '0.1' }).timeScale).toBe(0.5)
})

test('the token may be in a file', () => {
  const file = join(folder, 'token')
  writeFileSync(file, 'orb_agent_secret\n')
  expect(loadAgentOptions([], { ORBYTE_AGENT_TOKEN_FILE: file }).token).toBe('orb_agent_secret')
  expect(() => loadAgentOptions([], { ORBYTE_AGENT_TOKEN_FILE: join(folder, 'none') })).toThrow(UsageError)
})

test.each([
  ['--server market', 'address'],
  ['--server ftp://market', 'address'],
  ['--price 0', 'too little'],
  ['--price 0.1234567', 'ORB'],
  ['--price=-1', 'too little'],
  ['--emulate RTX', 'describes no GPU'],
  ['--hours night', 'names no hours'],
  ['--max-run forever', 'no time'],
  ['--task-types mining', 'no task type'],
  ['--models a,,b', 'no list'],
  ['--log-level loud', 'no log level'],
  ['--time-scale fast', 'no number'],
  ['--time-scale 0', 'no number'],
  ['--unknown 1', 'unknown'],
  ['--token', 'token'],
])('%s is refused with a hint', (line, hint) => {
  expect(() => loadAgentOptions(line.split(' '), {})).toThrow(UsageError)
  expect(() => loadAgentOptions(line.split(' '), {})).toThrow(hint)
})

test('the help names every flag', () => {
  for (const name of Object.keys(agentFlags)) expect(agentFlagsHelp()).toContain(`--${name}`)
})
