import type { TrueRun } from '../simulated-executor.ts'
import type { Evidence, Watch } from './evidence.ts'
import type { AttemptFacts, PaymentFacts, TaskFacts } from './promise-store.ts'

const msPerHour = 3_600_000n
const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0)

/**
 * No evidence, no charge: a task costs its price for the time that a GPU was really running it, once, within what was held, and
 * the provider gets what is left of it after the fee.
 */
export function watchCharges({ clock, store, runs, config, broken }: Evidence): Watch {
  function judgeEnd(task: TaskFacts) {
    const payments = store.paymentsOfTask(task.id)
    const [payment] = payments
    const charged = payment?.amount_micros ?? 0
    if (payments.length > 1) broken('a task is settled at most once', `${task.id} has ${payments.length} payments`)
    if (task.cost_micros !== charged)
      broken('money is conserved', `${task.id} cost ${task.cost_micros}, and its payment is of ${charged}`)
    if (charged > task.hold_micros)
      broken('no more is charged than was held', `${task.id} cost ${charged} of ${task.hold_micros}`)
    for (const { id, cost_micros } of store.attemptsOfTask(task.id))
      if (cost_micros !== (id === payment?.attempt_id ? charged : 0))
        broken('a retried attempt costs nothing', `${id} of ${task.id} cost ${cost_micros}`)
    if (payment) judgeCharge(task, payment)
    judgeHold(task, payment)
  }

  function judgeCharge(task: TaskFacts, { attempt_id, run_ms, amount_micros }: PaymentFacts) {
    const attempt = store.attempt(attempt_id)!
    const evidenceMs = Math.min(task.max_duration_ms, evidenceOf(runs.of(attempt_id)))
    if (run_ms > evidenceMs || attempt.ready_at === null)
      broken(
        'no evidence, no charge',
        `${task.id} is charged for ${run_ms} ms of ${attempt_id}: it ran ${evidenceMs} ms`,
      )
    if (attempt.price_micros_per_hour > task.max_price_micros_per_hour)
      broken('no price above the maximum', `${attempt_id} costs ${attempt.price_micros_per_hour} an hour`)
    const priced = sum(store.gpusOf(attempt_id).map(({ price }) => price))
    if (attempt.price_micros_per_hour !== priced)
      broken('a price is that of its GPUs', `${attempt_id} costs ${attempt.price_micros_per_hour}, its GPUs ${priced}`)
    const exact = BigInt(attempt.price_micros_per_hour) * BigInt(run_ms)
    const fair = Math.min(Number((exact + msPerHour - 1n) / msPerHour), task.hold_micros)
    if (amount_micros !== fair)
      broken('a charge is price times time', `${task.id} cost ${amount_micros}, and ${run_ms} ms cost ${fair}`)
    if (isProvidersFault(task, attempt))
      broken('a provider’s failure is not charged', `${task.id} cost ${amount_micros}, and ${attempt_id} failed`)
  }

  /**
   * The time from ready to the end; where the machine's clock runs fast, up to now. The market measures from when it hears of
   * either, so that is all it can know.
   */
  function evidenceOf(all: readonly TrueRun[]): number {
    return sum(
      all.map(({ readyMs, endedMs, clockRate }) => {
        if (readyMs === null) return 0
        return (clockRate > 1 ? clock.nowMs() : (endedMs ?? clock.nowMs())) - readyMs
      }),
    )
  }

  function isProvidersFault(task: TaskFacts, { status }: AttemptFacts): boolean {
    if (status === 'lost' || status === 'refused') return true
    // Cancelled, or stopped at its maximum, it was charged for what it ran before it could fail.
    if (task.status === 'cancelled' || task.end_code === 'max_duration') return false
    const { fail } = JSON.parse(task.input_data ?? '{}') as { fail?: string }
    return fail === 'crash' || fail === 'out_of_memory'
  }

  /** What was held is spent and given back, but for what a review or a dispute is about. */
  function judgeHold({ id }: TaskFacts, payment: PaymentFacts | undefined) {
    const hold = store.hold(id)
    if (!hold) return broken('money is conserved', `${id} has no hold`)
    const rest = hold.rest_micros
    const isOpen = payment?.status === 'pending' || payment?.status === 'disputed'
    const expected = isOpen ? payment.amount_micros : 0
    if (rest !== expected)
      broken('money is conserved', `${id} has ended, and ${rest} of its hold is left, not ${expected}`)
  }

  /** Who was paid what. */
  function judgeSettlement(taskId: string) {
    const [payment] = store.paymentsOfTask(taskId)
    if (!payment) return broken('money is conserved', `something was settled for ${taskId}, which has no payment`)
    const transfers = store.transfersOfTask(taskId)
    const moved = (kind: string) =>
      sum(transfers.filter((transfer) => transfer.kind === kind).map(({ amount_micros }) => amount_micros))
    const settled = moved('settlement') + moved('fee')
    const givenBack = payment.amount_micros - settled + moved('refund')
    const fee = Math.floor((settled * config.feeBasisPoints) / 10_000)
    if (moved('fee') !== fee || payment.fee_micros !== fee)
      broken('the fee is what it should be', `the fee of ${taskId} is ${moved('fee')} of ${settled}`)
    if (givenBack !== payment.refunded_micros || givenBack > payment.amount_micros)
      broken('money is conserved', `${payment.id} gave back ${givenBack}, and says ${payment.refunded_micros}`)
    const { gpu_id, provider_id } = store.attempt(payment.attempt_id)!
    const owner = store.ownerOf(gpu_id)
    const owners = new Set(store.gpusOf(payment.attempt_id).map((gpu) => store.ownerOf(gpu.gpu_id)))
    if (owners.size !== 1 || provider_id !== owner || payment.recipient_id !== owner)
      broken('the owner of the GPU is paid', `${payment.id} went to ${payment.recipient_id}, not to ${owner}`)
    for (const { kind, credit_account } of transfers)
      if (kind === 'settlement' && credit_account !== `available:${owner}`)
        broken('the owner of the GPU is paid', `${taskId} was paid to ${credit_account}, not to ${owner}`)
  }

  return {
    hear({ type, task_id }) {
      if (/^task\.(completed|failed|cancelled)$/.test(type)) judgeEnd(store.task(task_id!)!)
      if (type === 'payment.settled' || type === 'payment.refunded') judgeSettlement(task_id!)
    },
    everyHour() {
      for (const { id, hold_micros } of store.openTasks()) {
        const hold = store.hold(id)
        const isWhole = hold?.amount_micros === hold_micros && hold_micros > 0 && hold.rest_micros === hold_micros
        if (!isWhole)
          broken('a task keeps its hold until it ends', `${id} is open, and its hold is ${JSON.stringify(hold)}`)
      }
    },
    atTheEnd() {
      for (const task of store.tasks()) judgeEnd(task)
    },
  }
}
