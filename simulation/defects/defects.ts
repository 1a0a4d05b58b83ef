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
        replace: 'if (isOpen(active)) await end(active, message)\n    endings.free(active)',
        by: 'active.standing = "open"\n    await end(active, message)',
      },
      {
        file: 'server/src/tasks/task-ending.ts',
        replace:
          'if (!(await finishTask(tx, task.id, { status, end, cost, runMs, outputData, at }))) return false\n  if (attempt && !(await endAttempt(tx, attempt.id, { ...(ending.attempt ?? { status, end }), runMs, cost, at })))\n    throw new Error(`attempt ${attempt.id} of ${task.id} has ended, its task had not`)',
        by: 'await finishTask(tx, task.id, { status, end, cost, runMs, outputData, at })\n  if (attempt) await endAttempt(tx, attempt.id, { ...(ending.attempt ?? { status, end }), runMs, cost, at })',
      },
    ],
  },
  one('forget what was waiting at a restart', {
    file: 'server/src/scheduler/scheduler-service.ts',
    replace: 'queue.add(waiting(task, history))\n        continue',
    by: 'continue',
  }),
  one('forget a hold when the end is written', {
    file: 'server/src/payments/payment-service.ts',
    replace: "if (excess > 0) await ledger.release(tx, { taskId: charge.task_id, amount: excess, reason: 'end' })",
    by: "if (excess > 0 && charge.cost > 0) await ledger.release(tx, { taskId: charge.task_id, amount: excess, reason: 'end' })",
  }),
  one('accept what a stale attempt says', {
    file: 'server/src/scheduler/attempt-book.ts',
    replace: "return active !== null && active.standing === 'open' && active.ending === null",
    by: 'return active !== null',
  }),
  one('double-book a GPU', {
    file: 'server/src/scheduler/scheduler-service.ts',
    replace: 'if (attemptHoldsGpu(status)) registry.reserve(gpu_id, id)',
    by: 'void attemptHoldsGpu(status)',
  }),
  one('acknowledge before it is on the disk', {
    file: 'server/src/agents/agent-conversation.ts',
    replace: 'await handle(message)\n',
    by: 'void handle(message).catch(() => {})\n',
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
  one('drop the grace timer at a restart', {
    file: 'server/src/agents/agent-liveness.ts',
    replace:
      "states.set(agentId, { liveness: 'unknown', cancel: () => {}, heardMs: context.clock.now() })\n      wait(agentId, 2)",
    by: "states.set(agentId, { liveness: 'unknown', cancel: () => {}, heardMs: context.clock.now() })",
  }),
  one('round off by one against the renter', {
    file: 'server/src/payments/pricing.ts',
    replace: 'const cost = (exact + msPerHour - 1n) / msPerHour',
    by: 'const cost = exact / msPerHour + 1n',
  }),
  one('an agent that does not stop at its deadline', {
    file: 'agent/src/attempts/attempt.ts',
    replace: 'if (leftMs <= 0) return this.stop(deadlinePassed)',
    by: 'if (leftMs <= 0) return',
  }),
]
