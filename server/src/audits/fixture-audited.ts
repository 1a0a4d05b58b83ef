import { api, micros } from '@orbyte/protocol'
import type { DeviceWire, ScriptedAgent, Start } from '../agents/fixture-agent.ts'
import type { Config, Limits } from '../config.ts'
import { startMarket } from '../fixture-market.ts'
import type { TestUser } from '../fixture-server.ts'
import type { Outside } from '../server.ts'

export type AuditedMarket = Awaited<ReturnType<typeof startAuditedMarket>>

/** A market that checks its GPUs, all of one kind and each of another owner, and whose answers the test says. */
type Options = { config?: Partial<Config>; limits?: Partial<Limits>; outside?: Outside }

export async function startAuditedMarket(options: Options = {}) {
  const config = { auditMicrosPerDay: micros(10_000_000), ...options.config }
  const market = await startMarket({ config, limits: options.limits ?? {}, outside: options.outside ?? {} })
  const agents: ScriptedAgent[] = []
  const owners = new Map<ScriptedAgent, TestUser>()

  /** Time passes, and all agents are heard from. What that sets off is stored, however slow the disk is. */
  async function pass(seconds: number) {
    for (let left = seconds; left > 0; left -= 10) {
      market.clock.advance(Math.min(left, 10) * 1_000)
      await Promise.all(agents.filter((agent) => agent.isOpen()).map(beat))
      await market.context.database.transaction(async () => {})
    }
  }

  /** One that is shut out meanwhile has no answer. */
  async function beat(agent: ScriptedAgent) {
    await agent.heartbeat().catch((error: unknown) => {
      if (agent.isOpen()) throw error
    })
  }

  /** The text comes after a second. */
  async function finish(agent: ScriptedAgent, start: Start, text: string) {
    if (text !== '') await agent.output(start, 0, text, 10)
    market.clock.advance(1_000)
    const output_data = { text, model: 'tinylm', finish_reason: 'stop', prompt_tokens: 3, completion_tokens: 5 }
    await agent.result(start, { run_ms: 1_000, output_data })
  }

  /** Takes what it is asked and gives this answer. */
  async function answer(agent: ScriptedAgent, text: string): Promise<Start> {
    const start = await agent.begin()
    await finish(agent, start, text)
    return start
  }

  const isAsked = (agent: ScriptedAgent) => agent.untaken('attempt.start').length > 0

  return {
    ...market,
    pass,
    finish,
    ownerOf: (agent: ScriptedAgent) => owners.get(agent)!,
    gpu: ({ gpuId }: ScriptedAgent) => market.ask(null, api.gpus.get, { gpu_id: gpuId }),

    /** A GPU of a new owner's, unless it is somebody's, that only generates text. */
    async newGpu(device: Partial<DeviceWire> = {}, given?: TestUser) {
      const owner = given ?? (await market.person())
      const text = { task_types: ['text_generation' as const], model_formats: ['gguf'], price_per_hour: '3.6' }
      const agent = await market.machine(owner, [{ ...text, ...device }])
      agents.push(agent)
      owners.set(agent, owner)
      return agent
    },

    /** Until a check asks one of them something. */
    async untilAsked(among: readonly ScriptedAgent[], seconds = 60): Promise<ScriptedAgent[]> {
      const asked = () => among.filter(isAsked)
      for (let waited = 0; asked().length === 0 && waited < seconds; waited += 2) await pass(2)
      return asked()
    },

    answer,

    /** Each takes what it is asked, at once, and gives its answer, until it is so. False: it never was. */
    async serve(answers: ReadonlyMap<ScriptedAgent, string>, isSo: () => Promise<boolean>): Promise<boolean> {
      for (let waited = 0; waited < 7_200; waited += 2) {
        if (await isSo()) return true
        await pass(2)
        for (const [agent, text] of answers) if (agent.isOpen() && isAsked(agent)) await answer(agent, text)
      }
      return false
    },

    audits: async (admin: TestUser) => market.ask(admin, api.admin.audits, {}),
    /** What the market's own account has, and what of it is held. */
    async ownMoney() {
      const { context } = market
      return context.database.read(async (reader) => {
        const account = await reader.get<{ value: string }>(`SELECT value FROM settings WHERE name = 'audit_account'`)
        const balance = async (id: string) =>
          (await reader.get<{ micros: number }>('SELECT balance_micros AS micros FROM accounts WHERE id = ?', id))
            ?.micros ?? 0
        const [available, held] = [`available:${account?.value}`, `held:${account?.value}`]
        return { available: await balance(available), held: await balance(held), fees: await balance('fees') }
      })
    },
  }
}
