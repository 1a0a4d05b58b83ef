import type { AgentMessageOf, End } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import { type ActiveAttempt, type AttemptBook, type AttemptRef, deadlineInMs } from './attempt-book.ts'
import type { AttemptEndings } from './attempt-endings.ts'
import type { AttemptLimits } from './attempt-limits.ts'
import type { AttemptOffers } from './attempt-offers.ts'
import type { AttemptReports } from './attempt-reports.ts'

type Parts = {
  book: AttemptBook
  endings: AttemptEndings
  offers: AttemptOffers
  limits: AttemptLimits
  reports: AttemptReports
}

/** What becomes of an agent's attempts when it comes, speaks, is gone, or its owner wants a GPU back. */
export function createAttemptsOfAgents({ config }: Context, { book, endings, offers, limits, reports }: Parts) {
  /** Nothing runs on the agent's machine any more that the market knows of: it was silent for too long, or was shut out. */
  function agentGone(agentId: string, end: End) {
    for (const active of book.ofAgent(agentId)) endings.persist(active, () => lose(active, end))
  }

  async function lose(active: ActiveAttempt, end: End) {
    await endings.failProvider(active, { status: 'lost', end })
    endings.free(active)
  }

  /**
   * What an agent that has just connected is to do with the attempts that it has. Attempts of its that it does not know any more
   * are lost: tried elsewhere, uncharged.
   */
  async function reconcile(agentId: string, held: AgentMessageOf<'hello'>['attempts']) {
    const known = new Set(held.map(({ attempt_id }) => attempt_id))
    const message = 'The agent came back without it.'
    for (const active of book.ofAgent(agentId))
      if (!known.has(active.attempt.id))
        await lose(active, { code: 'agent_restarted', message, decided_by: 'platform' })
    return held.map(({ attempt_id, fencing_token, status }) => {
      const active = book.find(agentId, { attempt_id, fencing_token })
      const keep = active !== null && (active.standing === 'open' || status === 'ended')
      // It has taken it, and what says so is on its way.
      if (active?.status === 'offered' && active.standing === 'open') offers.expectAnswer(active)
      else if (active?.standing === 'open' && status === 'ended') limits.expectResult(active)
      const action = keep ? ('keep' as const) : ('stop' as const)
      return { attempt_id, fencing_token, action, deadline_in_ms: deadlineInMs(config.timing) }
    })
  }

  async function heartbeat(agentId: string, reported: AgentMessageOf<'heartbeat'>['attempts']) {
    const kept: AttemptRef[] = await reports.ticks(agentId, reported)
    const deadline_in_ms = deadlineInMs(config.timing)
    return kept.map(({ attempt_id, fencing_token }) => ({ attempt_id, fencing_token, deadline_in_ms }))
  }

  /** Also what was only asked for: its agent could still take it. Resolves once that is on the disk. */
  async function reclaimed({ id }: MarketGpu): Promise<void> {
    await Promise.all(book.ofGpu(id).map((active) => endings.insist(active, () => reclaim(active))))
  }

  async function reclaim(active: ActiveAttempt) {
    while (active.ending) await active.ending
    const message = 'The owner took the GPU back.'
    const end: End = { code: 'reclaimed', message, decided_by: 'provider' }
    await endings.failProvider(active, { status: active.status === 'offered' ? 'refused' : 'failed', end })
    endings.stop(active, message)
  }

  return { agentGone, reconcile, heartbeat, reclaimed }
}
