import fc from 'fast-check'
import { expect, test } from 'vitest'
import { api, micros, parseOrb } from '@orbyte/protocol'
import type { ScriptedAgent } from '../agents/fixture-agent.ts'
import type { TestUser } from '../fixture-server.ts'
import { type AuditedMarket, startAuditedMarket } from './fixture-audited.ts'

const deeds = ['right', 'canned', 'refuse', 'silence', 'fail', 'blame', 'vanish'] as const
type Deed = (typeof deeds)[number]

const anyStep = fc.record({
  /** What each GPU does if it is asked now. */
  deeds: fc.array(fc.constantFrom<Deed>('right', 'right', 'right', 'right', 'canned', 'canned', ...deeds), {
    minLength: 4,
    maxLength: 4,
  }),
  seconds: fc.constantFrom(2, 2, 2, 2, 2, 2, 2, 30, 700),
  renter: fc.constantFrom('nothing', 'nothing', 'task', 'rerun'),
})
const anyWorld = fc.record({
  steps: fc.array(anyStep, { minLength: 10, maxLength: 30 }),
  budget: fc.constantFrom(0, 50_000, 300_000, 3_000_000),
  feeBasisPoints: fc.constantFrom(0, 333),
  gpus: fc.integer({ min: 2, max: 4 }),
})

async function act(market: AuditedMarket, agent: ScriptedAgent, deed: Deed) {
  if (!agent.isOpen() || agent.untaken('attempt.start').length === 0 || deed === 'silence') return
  if (deed === 'vanish') return void (await agent.disconnect())
  if (deed === 'refuse') return agent.refuse(await agent.next('attempt.start'))
  if (deed === 'right' || deed === 'canned') return void (await market.answer(agent, deed))
  const start = await agent.begin()
  await agent.result(start, { outcome: 'failed', fault: deed === 'fail' ? 'provider' : 'renter', code: deed })
}

/** What the market has put into its account, which is all that its checks can have cost. */
async function putIn({ context }: AuditedMarket) {
  const row = await context.database.read((reader) =>
    reader.get<{ sum: number }>(
      `SELECT coalesce(sum(amount_micros), 0) AS sum FROM transfers WHERE kind = 'audit' AND credit_account LIKE 'available:%'`,
    ),
  )
  return row!.sum
}

async function submit(market: AuditedMarket, alice: TestUser, allow_reexecution: boolean) {
  const input_data = { prompt: 'Hello' }
  const fields = { max_cost: '0.01', max_price_per_hour: '5', wait: true, max_wait_ms: 60_000, allow_reexecution }
  await market.attempt(alice, api.tasks.create, { task_type: 'text_generation', input_data, ...fields })
}

test('whatever GPUs do, checks cost no more than their budget, the ledger adds up, and nothing is held in the end', async () => {
  await fc.assert(
    fc.asyncProperty(anyWorld, async ({ steps, budget, feeBasisPoints, gpus }) => {
      const market = await startAuditedMarket({ config: { auditMicrosPerDay: micros(budget), feeBasisPoints } })
      const [admin, alice] = [await market.admin(), await market.person('100')]
      const agents: ScriptedAgent[] = []
      for (let count = 0; count < gpus; count++) agents.push(await market.newGpu({ price_per_hour: String(1 + count) }))

      const check = async () => {
        expect(await market.ledgerProblems()).toEqual([])
        const { spent } = await market.audits(admin)
        expect(parseOrb(spent)).toBeLessThanOrEqual(budget)
        expect(await putIn(market)).toBeLessThanOrEqual(budget)
      }
      for (const { deeds: does, seconds, renter } of steps) {
        if (renter !== 'nothing') await submit(market, alice, renter === 'rerun')
        await market.pass(seconds)
        for (const [index, agent] of agents.entries()) await act(market, agent, does[index]!)
        await check()
      }
      // Longer than any check waits, and than any payment is reviewed.
      for (let hours = 0; hours < 27; hours++) {
        market.clock.advance(3_600_000)
        await check()
      }
      const { held } = await market.ownMoney()
      const open = (await market.audits(admin)).items.filter(({ status }) => status === 'open')
      expect({ held, open }).toEqual({ held: 0, open: [] })
      await market.close()
    }),
    { numRuns: 15 },
  )
})
