import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { createTestCli } from './fixture-cli.ts'

const taskId = `task_${'0'.repeat(26)}`
const sha256 = createHash('sha256').update('evil').digest('hex')
let name = ''

/** A market that says what it likes. */
const market = createServer((request, response) => {
  if (request.url!.includes('/files/')) return response.end('evil')
  const url = `/api/tasks/${taskId}/files/x`
  const files = [{ name, mime_type: 'text/plain', size_bytes: 4, sha256, url }]
  const made = {
    id: taskId,
    prompt: 'a red circle',
    model: null,
    created_at: '2026-01-02T03:04:05.000Z',
    images: files,
  }
  const reply = request.url!.includes('/images') ? { items: [made], next_cursor: null } : { id: taskId, files }
  return response.setHeader('content-type', 'application/json').end(JSON.stringify(reply))
}).listen(0, '127.0.0.1')
await once(market, 'listening')
afterAll(() => market.close())
const marketUrl = `http://127.0.0.1:${(market.address() as AddressInfo).port}`

test.for(['../escaped.txt', '/tmp/../escaped.txt', '..', '.profile', 'a/b', 'a\\b', 'c:x'])(
  'a market that calls a file %s does not get to choose where it goes',
  async (evil) => {
    name = evil
    const cli = createTestCli(marketUrl)
    mkdirSync(join(cli.folder, 'out'))
    for (const command of [['files', taskId], ['images']]) {
      const { code, stderr } = await cli(['tasks', ...command, '-o', 'out'])
      expect([code, stderr]).toEqual([1, expect.stringContaining('no name for a file')])
    }
    expect(existsSync(join(cli.folder, 'escaped.txt'))).toBe(false)
  },
)

test('a file with a name is written under it', async () => {
  name = 'image-1.png'
  const cli = createTestCli(marketUrl)
  expect((await cli(['tasks', 'files', taskId, '-o', 'out'])).code).toBe(0)
  expect(readFileSync(join(cli.folder, 'out', name), 'utf8')).toBe('evil')
})

test('the images of all tasks are written under the ids of their tasks, and listed', async () => {
  name = 'image-1.png'
  const cli = createTestCli(marketUrl)
  const { code, stdout, stderr } = await cli(['tasks', 'images', '-o', 'pictures'])
  expect([code, stderr]).toEqual([0, 'Wrote 1 image to pictures.\n'])
  expect(stdout).toMatch(/task_0{26} +1 .*a red circle/)
  expect(readFileSync(join(cli.folder, 'pictures', `${taskId}-image-1.png`), 'utf8')).toBe('evil')
})
