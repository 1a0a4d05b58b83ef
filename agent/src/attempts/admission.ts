import { formatOrb, type Micros, parseOrb, type ServerMessageOf, taskInputs } from '@orbyte/protocol'
import type { OwnerLimits } from '../agent-config.ts'
import type { Executor, Use } from '../executors/executor.ts'
import { isWithinHours } from '../owner/hours.ts'

export type AttemptStart = ServerMessageOf<'attempt.start'>

/** What the agent knows when it is asked to run an attempt. */
export type Situation = {
  readonly isStopping: boolean
  /** Of all devices that it is to have. */
  readonly areDevicesHere: boolean
  /** Others have so much of one that what it is to have is not free. */
  readonly isDeviceBusy: boolean
  readonly isDevicePaused: boolean
  /** The least that the market sells one of the devices at, as a whole; null: it has not said. */
  readonly priceMicrosPerHour: Micros | null
  readonly use: Use
  readonly executor: Executor | null
  readonly remainingMs: number
  readonly nowMs: number
  readonly limits: OwnerLimits
}

export type AttemptRefusal = { readonly code: string; readonly message: string }

/** Why the agent does not run an attempt; null: it does. The market then asks the next GPU. */
export function refusalOf(start: AttemptStart, situation: Situation): AttemptRefusal | null {
  if (situation.isStopping) return refusal('draining', 'The agent is stopping.')
  if (!situation.areDevicesHere) return refusal('unknown_device', 'This machine has no such device any more.')
  if (situation.isDevicePaused) return refusal('paused', 'The owner takes no tasks on this GPU now.')
  if (situation.isDeviceBusy) return refusal('gpu_busy', 'Other attempts still hold too much of the GPU.')
  if (situation.remainingMs <= 0) return refusal('deadline_passed', 'It arrived after its deadline.')
  const limited = limitOf(start, situation)
  if (limited !== null) return limited
  if (situation.executor === null) {
    const what = start.model === null ? '' : ` with the model ${start.model.name} (${start.model.format})`
    const where = { whole: '', several: ' on several GPUs', shares: ' on a share of a GPU' }[situation.use]
    return refusal('unsupported', `No executor of this machine can do ${start.task_type}${what}${where}.`)
  }
  const input = taskInputs[start.task_type].safeParse(start.input)
  if (!input.success) return refusal('invalid_input', 'The input does not fit this agent’s version of the task type.')
  return null
}

function limitOf(start: AttemptStart, { limits, nowMs, priceMicrosPerHour }: Situation): AttemptRefusal | null {
  const { taskTypes, models, minPricePerHour, hours, runMsMax } = limits
  if (!isWithinHours(hours, nowMs)) return refusal('outside_hours', 'The owner takes tasks at other hours.')
  if (taskTypes !== null && !taskTypes.includes(start.task_type)) {
    return refusal('task_type_not_allowed', `The owner does not allow ${start.task_type}.`)
  }
  const model = start.model?.name ?? start.input['model']
  if (models !== null && typeof model === 'string' && !models.includes(model)) {
    return refusal('model_not_allowed', `The owner does not allow the model ${model}.`)
  }
  if (minPricePerHour !== null && priceMicrosPerHour !== null && priceMicrosPerHour < parseOrb(minPricePerHour)) {
    const price = formatOrb(priceMicrosPerHour)
    return refusal(
      'price_too_low',
      `The GPU is offered at ${price} ORB an hour, and its owner wants ${minPricePerHour}.`,
    )
  }
  if (runMsMax !== null && start.duration_ms_max > runMsMax) {
    return refusal('run_too_long', `It may run for ${start.duration_ms_max} ms, and the owner allows ${runMsMax} ms.`)
  }
  return null
}

function refusal(code: string, message: string): AttemptRefusal {
  return { code, message }
}
