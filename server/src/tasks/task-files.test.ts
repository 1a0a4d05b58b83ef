import { createHash } from 'node:crypto'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent, Start } from '../agents/fixture-agent.ts'
import type { FileStore } from '../file-store.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import { folderFileStore, memoryFileStore } from '../system-file-store.ts'

let market: Market
afterEach(() => market.close())

const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')
const file = (agent: ScriptedAgent, start: Start, text: string) => ({
  ...{ type: 'attempt.file', ...agent.ref(start), name: 'a.txt', mime_type: 'text/plain', sha256: hashOf(text) },
  ...{ size_bytes: text.length, offset: 0, data: Buffer.from(text).toString('base64'), run_ms: 0 },
})

/** A store that holds up what it was asked to put, once that is there. */
function heldFileStore() {
  const store = memoryFileStore()
  let held: Promise<void> | null = null
  let letGo = () => {}
  let arrived = () => {}
  const files: FileStore = {
    ...store,
    async put(sha256, bytes) {
      await store.put(sha256, bytes)
      arrived()
      await held
    },
  }
  return {
    files,
    /** Resolves when something has been put. */
    hold() {
      held = new Promise((resolve) => (letGo = resolve))
      return new Promise<void>((resolve) => (arrived = resolve))
    },
    letGo: () => letGo(),
  }
}

test('a file that one task lets go stays while another that has the same is on its way to the database', async () => {
  const store = heldFileStore()
  market = await startMarket({ outside: { files: store.files } })
  const alice = await market.person('100')
  const agent = await market.machine(await market.person())
  const first = await market.submit(alice)
  const start = await agent.begin()
  await agent.report(file(agent, start, 'the same'))
  await agent.result(start)

  const second = await market.submit(alice)
  const again = await agent.begin()
  const arrived = store.hold()
  const told = agent.report(file(agent, again, 'the same'))
  await arrived
  const deleted = market.ask(alice, api.tasks.deleteData, { task_id: first.id })
  await market.until(
    () => market.task(alice, first.id),
    ({ input_data }) => input_data === null,
  )
  store.letGo()
  await Promise.all([told, deleted])
  await agent.result(again)
  const answer = await market.call(`GET /api/tasks/${second.id}/files/a.txt`, { token: alice.token })
  expect([answer.status, answer.body]).toEqual([200, 'the same'])
  await market.ask(alice, api.tasks.deleteData, { task_id: second.id })
  expect(await store.files.get(hashOf('the same'))).toBeNull()
})

test('files that belong to nobody are removed, those of tasks stay, and other things in the folder too', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'orbyte-files-'))
  const files = folderFileStore(join(folder, 'files'))
  market = await startMarket({ outside: { files } })
  const alice = await market.person('100')
  const agent = await market.machine(await market.person())
  await market.submit(alice)
  const start = await agent.begin()
  await agent.report(file(agent, start, 'kept'))
  await files.put(hashOf('left by a crash'), Buffer.from('left by a crash'))
  await writeFile(join(folder, 'files', hashOf('kept').slice(0, 2), 'a note'), 'x')
  await market.until(
    async () => {
      market.clock.advance(60_000)
      return files.get(hashOf('left by a crash'))
    },
    (found) => found === null,
  )
  expect(Buffer.from((await files.get(hashOf('kept')))!).toString()).toBe('kept')
  expect((await readdir(join(folder, 'files', hashOf('kept').slice(0, 2)))).sort()).toEqual(
    [hashOf('kept'), 'a note'].sort(),
  )
  await rm(folder, { recursive: true })
})
