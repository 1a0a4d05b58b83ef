/**
 * Up to which message each agent has been acknowledged, by this process of the market. Numbers count within a process of the agent,
 * which `instance` names.
 */
export function createAcknowledged() {
  const known = new Map<string, { instance: string; seq: number }>()
  return {
    /** An agent is here: a new process of it begins at zero. */
    begin(agentId: string, instance: string) {
      if (known.get(agentId)?.instance !== instance) known.set(agentId, { instance, seq: 0 })
    },
    note(agentId: string, seq: number) {
      const last = known.get(agentId)
      if (last) last.seq = Math.max(last.seq, seq)
    },
    /** 0: nothing yet. */
    seqOf: (agentId: string) => known.get(agentId)?.seq ?? 0,
  }
}
