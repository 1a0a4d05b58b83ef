import { expect, test } from 'vitest'
import { api } from '@orbyte/protocol'
import { startMarket } from './fixture-market.ts'

test('where one duty of the housekeeping fails, the others are done', async () => {
  const market = await startMarket()
  const { database, config } = market.context
  const alice = await market.person()
  const keyed = { ...alice, headers: { 'idempotency-key': 'one' } }
  await market.attempt(keyed, api.wallet.deposit, { amount: '1' })
  const keys = async () => (await database.read((reader) => reader.all('SELECT key FROM idempotency_keys'))).length
  expect(await keys()).toBe(1)
  await database.transaction((tx) => tx.run('ALTER TABLE disputes RENAME TO missing'))
  market.clock.advance(config.timing.idempotencyMs)
  const swept = await market.until(
    async () => {
      market.clock.advance(config.timing.housekeepingMs)
      await market.balance(alice)
      return keys()
    },
    (count) => count === 0,
  )
  expect(swept).toBe(0)
  await market.close()
})
