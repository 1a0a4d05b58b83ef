import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import { type Market, startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'

let market: Market
let agent: ScriptedAgent
beforeAll(async () => {
  market = await startMarket()
  agent = await market.machine(await market.person(), [{ model_formats: ['tinyimg-onnx'] }])
})
afterAll(() => market.close())

const imagesOf = (renter: TestUser, page: { limit?: number; cursor?: string } = {}) =>
  market.ask(renter, api.tasks.images, page)

/** A task of images that has made files of these names, and how its attempt goes on. */
async function makeImages(renter: TestUser, { prompt, files }: { prompt: string; files: string[] }) {
  // Ids of one millisecond are in no order.
  market.clock.advance(1)
  const { id } = await market.ask(renter, api.tasks.create, { task_type: 'image_generation', input_data: { prompt } })
  const start = await agent.begin()
  for (const name of files) {
    const data = Buffer.from(`${id} ${name}`)
    await agent.report({
      ...{
        type: 'attempt.file',
        ...agent.ref(start),
        name,
        mime_type: name.endsWith('.png') ? 'image/png' : 'text/plain',
      },
      ...{ sha256: createHash('sha256').update(data).digest('hex'), size_bytes: data.length, offset: 0 },
      ...{ data: data.toString('base64'), run_ms: 0 },
    })
  }
  const images = [{ file: files[0] ?? 'none.png', width: 64, height: 64, seed: 1 }]
  const complete = () => agent.result(start, { output_data: { images, model: 'tinyimg', ignored_words: [] } })
  return { id, start, complete }
}

test('images are listed task by task, the newest first, with what made them and what they cost', async () => {
  const renter = await market.person('100')
  const first = await makeImages(renter, { prompt: 'a red circle', files: ['1.png', '2.png', 'notes.txt'] })
  await first.complete()
  const second = await makeImages(renter, { prompt: 'a blue square', files: ['1.png'] })
  const { items } = await imagesOf(renter)
  expect(items).toMatchObject([
    { id: second.id, prompt: 'a blue square', status: 'running', cost: null, images: [{ name: '1.png' }] },
    { id: first.id, prompt: 'a red circle', status: 'completed', images: [{ name: '1.png' }, { name: '2.png' }] },
  ])
  const { cost } = await market.task(renter, first.id)
  expect(items[1]).toMatchObject({
    cost,
    images: [{ mime_type: 'image/png', url: `/api/tasks/${first.id}/files/1.png` }, {}],
  })
  expect(items[1]!.model).toBeTypeOf('string')
  await second.complete()
})

test('a task that made none, one whose data was deleted and one of somebody else’s are left out', async () => {
  const [renter, other] = [await market.person('100'), await market.person('100')]
  const none = await makeImages(renter, { prompt: 'nothing', files: [] })
  await agent.result(none.start, { outcome: 'failed', code: 'out_of_memory', message: 'No.', fault: 'renter' })
  const deleted = await makeImages(renter, { prompt: 'not for long', files: ['1.png'] })
  await deleted.complete()
  expect((await imagesOf(renter)).items.map(({ id }) => id)).toEqual([deleted.id])
  await market.ask(renter, api.tasks.deleteData, { task_id: deleted.id })
  expect((await imagesOf(renter)).items).toEqual([])
  const foreign = await makeImages(other, { prompt: 'mine', files: ['1.png'] })
  await foreign.complete()
  expect((await imagesOf(renter)).items).toEqual([])
})

test('a page ends where the next one begins', async () => {
  const renter = await market.person('100')
  const made: string[] = []
  for (const prompt of ['one', 'two', 'three']) {
    const { id, complete } = await makeImages(renter, { prompt, files: ['1.png'] })
    await complete()
    made.unshift(id)
  }
  const page = await imagesOf(renter, { limit: 2 })
  const rest = await imagesOf(renter, { limit: 2, cursor: page.next_cursor! })
  expect([...page.items, ...rest.items].map(({ id }) => id)).toEqual(made)
  expect(rest.next_cursor).toBeNull()
})

test('an attempt that was given up leaves no image behind', async () => {
  const renter = await market.person('100')
  const { start, id } = await makeImages(renter, { prompt: 'twice', files: ['1.png'] })
  expect((await imagesOf(renter)).items).toMatchObject([{ id }])
  await agent.result(start, { outcome: 'failed', code: 'engine_crashed', message: 'It crashed.', fault: 'provider' })
  await market.until(
    () => market.task(renter, id),
    ({ status }) => status === 'pending',
  )
  expect((await imagesOf(renter)).items).toEqual([])
  await market.ask(renter, api.tasks.cancel, { task_id: id })
})
