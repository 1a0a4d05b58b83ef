import { afterAll, beforeAll, expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import { type Market, startMarket } from '../fixture-market.ts'

let market: Market
beforeAll(async () => {
  market = await startMarket()
})
afterAll(() => market.close())

/** Every row of every table that has this text in it. */
function rowsWith(text: string): Promise<string[]> {
  return market.context.database.read(async (reader) => {
    const found: string[] = []
    const tables = await reader.all<{ name: string }>(`SELECT name FROM sqlite_master WHERE type = 'table'`)
    for (const { name } of tables)
      for (const row of await reader.all(`SELECT * FROM ${name}`)) {
        if (JSON.stringify(row).includes(text)) found.push(name)
      }
    return found
  })
}

test('what a renter deletes is nowhere in the database any more, not even among kept replies', async () => {
  const [renter, owner] = [await market.person('100'), await market.person()]
  const agent = await market.machine(owner)
  const words = 'the words that only their renter may keep'
  const keyed = { ...renter, headers: { 'idempotency-key': 'once' } }
  const submitted = await market.attempt(keyed, api.tasks.create, { task_type: 'other', input_data: { words } })
  const { id } = submitted.body as { id: string }
  const start = await agent.begin()
  await agent.output(start, 0, words)
  await agent.result(start, { output_data: { words } })
  expect(await rowsWith(words)).not.toEqual([])
  await market.ask(renter, api.tasks.deleteData, { task_id: id })
  expect(await rowsWith(words)).toEqual([])
  expect(await market.task(renter, id)).toMatchObject({ status: 'completed', input_data: null, output_data: null })
})
