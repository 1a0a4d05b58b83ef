/** A mistake that somebody could make: in one file of the product, each text is replaced by another. */
export type Defect = { readonly name: string; readonly changes: readonly Change[] }
export type Change = { readonly file: string; readonly replace: string; readonly by: string }

const one = (name: string, change: Change): Defect => ({ name, changes: [change] })

/** None of this is in the product: it is patched into a copy, to see whether the simulation finds it. */
export const defects: readonly Defect[] = [
  {
    name: 'settle twice on a resent result',
    changes: [
      {
        file: 'server/src/scheduler/attempt-reports.ts',
        replace: 'if (!isOpen(active)) return\n    if (active.status',
        by: 'active.standing = "open"\n    if (active.status',
      },
      {
        file: 'server/src/scheduler/attempt-book.ts',
        replace: 'if (!byId.delete(active.attempt.id)) return\n',
        by: '',
      },
      {
        file: 'server/src/tasks/task-ending.ts',
        replace:
          'if (!(await finishTask(tx, task.id, { status, end, cost, runMs, outputData, at, attempt, reported }))) return false',
        by: 'await finishTask(tx, task.id, { status, end, cost, runMs, outputData, at, attempt, reported })',
      },
    ],
  },
  one('forget the holds of what runs at a restart', {
    file: 'server/src/scheduler/scheduler-service.ts',
    replace: 'if (attemptHoldsGpu(active.status)) registry.reserve(active.attempt.id, active.taken)',
    by: `if (attemptHoldsGpu(active.status)) registry.reserve(active.attempt.id, active.taken)
      await database.transaction((tx) => payments.charge(tx, { task_id: task.id, cost: 0 } as never))`,
  }),
  one('forget at a restart what was waiting', {
    file: 'server/src/scheduler/scheduler-service.ts',
    replace: 'queue.add(waiting(task, history))\n        continue',
    by: 'continue',
  }),
  one('forget at a restart which GPUs are taken', {
    file: 'server/src/scheduler/scheduler-service.ts',
    replace: 'if (attemptHoldsGpu(active.status)) registry.reserve(active.attempt.id, active.taken)',
    by: 'void attemptHoldsGpu(active.status)',
  }),
  one('drop the grace timer at a restart', {
    file: 'server/src/agents/agent-liveness.ts',
    replace: "begin(agentId, 'unknown', 2)",
    by: "begin(agentId, 'unknown', steps.length)",
  }),
  one('accept a stale token', {
    file: 'server/src/scheduler/attempt-book.ts',
    replace: 'active && active.attempt.agent_id === agentId && active.attempt.fencing_token === ref.fencing_token',
    by: 'active && active.attempt.agent_id === agentId',
  }),
  one('let any agent speak for any attempt', {
    file: 'server/src/scheduler/attempt-book.ts',
    replace: 'active && active.attempt.agent_id === agentId && active.attempt.fencing_token === ref.fencing_token',
    by: 'active && active.attempt.fencing_token === ref.fencing_token',
  }),
  {
    name: 'double-book a GPU',
    changes: [
      {
        file: 'server/src/gpus/gpu-registry.ts',
        replace: 'gpu.takenMilli + milli > wholeMilli',
        by: 'milli > wholeMilli',
      },
      {
        file: 'server/src/scheduler/free-gpus.ts',
        replace: 'wholeMilli - gpu.takenMilli - book.offeredMilli(gpu.id)',
        by: 'wholeMilli - book.offeredMilli(gpu.id)',
      },
      {
        file: 'agent/src/attempts/admission.ts',
        replace:
          "if (situation.isDeviceBusy) return refusal('gpu_busy', 'Other attempts still hold too much of the GPU.')",
        by: '',
      },
    ],
  },
  {
    name: 'give out more of a GPU than there is',
    changes: [
      {
        file: 'server/src/gpus/gpu-registry.ts',
        replace: 'gpu.takenMilli + milli > wholeMilli',
        by: 'gpu.takenMilli + milli > 1.5 * wholeMilli',
      },
      {
        file: 'server/src/scheduler/free-gpus.ts',
        replace: 'wholeMilli - gpu.takenMilli - book.offeredMilli(gpu.id)',
        by: 'wholeMilli - Math.floor(gpu.takenMilli / 2) - book.offeredMilli(gpu.id)',
      },
      {
        file: 'agent/src/attempts/attempt-runner.ts',
        replace: 'this.#heldMilli(uuid) + milli > wholeMilli',
        by: 'this.#heldMilli(uuid) + milli > 2 * wholeMilli',
      },
    ],
  },
  one('reserve only the first of several GPUs', {
    file: 'server/src/gpus/gpu-registry.ts',
    replace: 'for (const { gpuId, milli } of taken) this.#hold',
    by: 'for (const { gpuId, milli } of taken.slice(0, 1)) this.#hold',
  }),
  one('acknowledge before it is on the disk', {
    file: 'server/src/agents/agent-conversation.ts',
    replace: 'await this.#owner.handle(message)\n',
    by: 'void this.#owner.handle(message).catch(() => {})\n',
  }),
  one('acknowledge across a gap', {
    file: 'server/src/agents/agent-conversation.ts',
    replace: 'if (seqBefore(message) > lastSeq) {',
    by: 'if (seqBefore(message) < 0) {',
  }),
  one('lose a result that was not acknowledged', {
    file: 'agent/src/attempts/attempt-runner.ts',
    replace: 'journal.ended({ ...name, run_ms: runMs }, outbox.unacknowledgedOf(name.attempt_id))',
    by: 'journal.forget(name.attempt_id)',
  }),
  one('send nothing again after a reconnect', {
    file: 'agent/src/connection/outbox.ts',
    replace: 'for (const entry of this.#entries.slice(0, this.#sentCount)) send(numbered(entry))',
    by: '',
  }),
  one('acknowledge output that could not be kept', {
    file: 'server/src/scheduler/attempt-reports.ts',
    replace: 'active.outputBytes -= bytes\n      throw error',
    by: 'active.outputBytes -= bytes',
  }),
  one('keep what an earlier attempt had put out', {
    file: 'server/src/tasks/attempt-service.ts',
    replace: "if (subject.attempt.number > 1) await tell(tx, subject, { type: 'output.reset', data: {} })",
    by: '',
  }),
  one('tell of a change before it is committed', {
    file: 'server/src/db/sqlite-commit.ts',
    replace: 'this.effects.push(effect)',
    by: 'effect()',
  }),
  one('forget idempotency keys', {
    file: 'server/src/http/idempotency-store.ts',
    replace: 'if (row && row.created_at >= oldest) {',
    by: 'if (row && row.created_at < oldest) {',
  }),
  {
    name: 'charge the time to get ready',
    changes: [
      {
        file: 'agent/src/attempts/attempt.ts',
        replace:
          'if (this.#readyAtMs === null) return 0\n    const until = this.#meterStoppedAtMs ?? this.#options.clock.monotonicMs()\n    return Math.max(0, Math.floor(until - this.#readyAtMs))',
        by: 'const until = this.#meterStoppedAtMs ?? this.#options.clock.monotonicMs()\n    return Math.max(0, Math.floor(until - this.#options.since.monotonicMs))',
      },
      {
        file: 'server/src/payments/pricing.ts',
        replace: 'Math.min(evidence.claimedMs, evidence.observedMs, evidence.maxMs)',
        by: 'Math.min(evidence.claimedMs, evidence.maxMs)',
      },
    ],
  },
  one('believe the agent’s clock', {
    file: 'server/src/payments/pricing.ts',
    replace: 'Math.min(evidence.claimedMs, evidence.observedMs, evidence.maxMs)',
    by: 'Math.min(evidence.claimedMs, evidence.maxMs)',
  }),
  one('charge for a provider’s failure', {
    file: 'server/src/scheduler/attempt-reports.ts',
    replace: "if (outcome === 'failed' && fault === 'renter') return endings.failRenter",
    by: "if (outcome === 'failed') return endings.failRenter",
  }),
  one('round off by one against the renter', {
    file: 'server/src/payments/pricing.ts',
    replace: 'const cost = (exact + msPerHour - 1n) / msPerHour',
    by: 'const cost = exact / msPerHour + 1n',
  }),
  one('round the fee against the provider', {
    file: 'server/src/payments/pricing.ts',
    replace: 'BigInt(basisPoints)) / 10_000n',
    by: 'BigInt(basisPoints) + 9_999n) / 10_000n',
  }),
  one('give nothing back where a task cost nothing', {
    file: 'server/src/payments/payment-service.ts',
    replace: 'if (cost === 0 || !auto_pay) await ledger.release',
    by: 'if (cost > 0 && !auto_pay) await ledger.release',
  }),
  one('forget what has been taken out of a hold', {
    file: 'server/src/ledger/ledger-store.ts',
    replace: 'WHERE task_id = h.task_id AND debit_account = h.credit_account',
    by: 'WHERE task_id IS NULL AND debit_account = h.credit_account',
  }),
  one('begin the ledger’s chain anew at a restart', {
    file: 'server/src/ledger/open-batch.ts',
    replace: '(await store.lastBatch(tx)) ?? genesis',
    by: '{ ...((await store.lastBatch(tx)) ?? genesis), hash: genesisHash }',
  }),
  one('go on from a batch whose commit was lost', {
    file: 'server/src/ledger/open-batch.ts',
    replace: 'tx.onUndo(() => (last = before))',
    by: 'void before',
  }),
  one('an agent that does not stop at its deadline', {
    file: 'agent/src/attempts/attempt.ts',
    replace: 'if (leftMs <= 0) return this.stop(deadlinePassed)',
    by: 'if (leftMs <= 0) return',
  }),
  one('forget at a restart what the owner has taken back', {
    file: 'agent/src/owner/pauses.ts',
    replace: 'this.#paused = Paused.parse(JSON.parse(text))',
    by: '',
  }),
  one('give a GPU that is taken back the task that it was asked for', {
    file: 'server/src/scheduler/attempts-of-agents.ts',
    replace: 'await Promise.all(book.ofGpu(id).map(',
    by: "await Promise.all(book.ofGpu(id).filter((active) => active.status !== 'offered').map(",
  }),
  one('ask a GPU again that has just failed', {
    file: 'server/src/scheduler/rankers.ts',
    replace: 'return againAtMs !== undefined && !(retryFailed && againAtMs <= nowMs)',
    by: 'return againAtMs === -1 && retryFailed && nowMs > 0',
  }),
  one('wait for longer than was asked', {
    file: 'server/src/scheduler/scheduler-service.ts',
    replace: 'filter(({ waitUntilMs }) => waitUntilMs <= nowMs)',
    by: 'filter(({ waitUntilMs }) => waitUntilMs <= nowMs - 86_400_000)',
  }),
]
