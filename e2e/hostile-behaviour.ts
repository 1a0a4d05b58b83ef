import { api, formatOrb, type InputOf, parseOrb } from '@orbyte/protocol'
import type { ScriptedAgent, Start } from '@orbyte/server/agents/fixture-agent.ts'
import { type AuditedMarket, startAuditedMarket } from '@orbyte/server/audits/fixture-audited.ts'
import type { TestUser } from '@orbyte/server/fixture-server.ts'

/** What came of it, as measured. */
export type Facts = {
  /** What renters paid to the hostile agent, in ORB, once everything had been settled. */
  readonly paid: string
  /** The code of what stopped it: of an end, a refusal, an event or a verdict. */
  readonly stoppedBy: string
  /** How long it took from when it began to misbehave until the market acted. */
  readonly detected: string
}

/** One way in which an agent may cheat or get in the way, and what the market does about it. */
export type Behaviour = {
  readonly name: string
  /** What the platform did, for the table. */
  readonly response: string
  run(): Promise<Facts>
}

export type Stage = AuditedMarket & { readonly alice: TestUser; readonly startedMs: number }

/** A market of its own, with somebody who has money; over when `play` is. */
export async function onStage<T>(
  options: Parameters<typeof startAuditedMarket>[0],
  play: (stage: Stage) => Promise<T>,
): Promise<T> {
  const market = await startAuditedMarket(options)
  try {
    const alice = await market.person('100')
    return await play({ ...market, alice, startedMs: market.clock.now() })
  } finally {
    await market.close()
  }
}

type Fields = Partial<InputOf<typeof api.tasks.create>>

/** A text task of Alice's: on the cheapest GPU. */
export async function submitText(stage: Stage, fields: Fields = {}): Promise<string> {
  const input_data = { prompt: 'Once upon a time', ...(fields.input_data as object) }
  const task = { task_type: 'text_generation' as const, max_cost: '1', ...fields, input_data }
  return (await stage.ask(stage.alice, api.tasks.create, task)).id
}

/** To the second; what is looked for every few seconds is within so many. */
export const after = (ms: number) => (ms === 0 ? 'at once' : `${ms / 1_000} s`)
export const within = (ms: number) => `within ${Math.ceil(ms / 30_000) * 30} s`

export const elapsedMs = ({ clock, startedMs }: Stage) => clock.now() - startedMs

/** What the owner of this agent has in the wallet, less what the market itself has paid for its checks. */
export async function paidByRenters(stage: Stage, agent: ScriptedAgent): Promise<string> {
  const { items } = await stage.ask(stage.ownerOf(agent), api.payments.received, { limit: 200 })
  const byRenters = items.filter(({ payer_id, status }) => payer_id === stage.alice.id && status !== 'pending')
  return formatOrb(byRenters.reduce((sum, { amount, refunded }) => sum + parseOrb(amount) - parseOrb(refunded), 0))
}

/** The first attempt at a task that has ended, and how. */
export async function endOfAttempt(stage: Stage, taskId: string) {
  const task = await stage.until(
    () => stage.task(stage.alice, taskId),
    ({ attempts }) => attempts[0]?.end !== null && attempts[0] !== undefined,
  )
  return task.attempts[0]!.end!
}

export async function failToLoad(stage: Stage, agent: ScriptedAgent, start: Start) {
  await agent.accept(start)
  await agent.preparing(start, 'loading')
  await stage.pass(20)
  const failure = { code: 'out_of_memory', message: 'The model does not fit into this device’s memory.' }
  await agent.result(start, { outcome: 'failed', fault: 'provider', ...failure })
}
