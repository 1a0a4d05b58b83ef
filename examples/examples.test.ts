import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Network, startNetwork } from '../dev/network.ts'

let network: Network
let token: string
beforeAll(async () => {
  network = await startNetwork()
  token = (await network.alice.client.apiKeys.create({ name: 'examples' })).key
  await network.gpusAvailable(1)
})
afterAll(() => network.close())

async function run(example: string): Promise<string> {
  const tsx = import.meta.resolve('tsx')
  const path = fileURLToPath(new URL(example, import.meta.url))
  const env = { ...process.env, ORBYTE_URL: network.url, ORBYTE_TOKEN: token }
  return (await promisify(execFile)(process.execPath, ['--import', tsx, path], { env })).stdout
}

test('generate-text.ts prints what a model wrote, and what it cost', async () => {
  expect(await run('generate-text.ts')).toMatch(/\w{3}[^]*\ncompleted: 0\.0\d+ ORB for \d+ ms\n$/)
})

test('search-by-meaning.ts puts the sentence about GPUs first', async () => {
  const [first] = (await run('search-by-meaning.ts')).split('\n')
  expect(first).toMatch(/^0\.\d\d {2}rent a graphics card/)
})

test('watch-the-market.ts lists the GPU on offer', async () => {
  expect(await run('watch-the-market.ts')).toMatch(/ORB\/h {2}available {4}24 GiB {2}RTX 4090/)
})
