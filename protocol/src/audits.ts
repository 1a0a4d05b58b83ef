import { z } from 'zod'
import { Timestamp } from './endpoint.ts'
import { idOf } from './ids.ts'
import { NonNegativeAmount } from './amounts.ts'
import { TaskType } from './task-types.ts'

export const AuditKind = z.enum(['canary', 'reexecution']).meta({
  id: 'AuditKind',
  description: 'canary: a task that the market made up; reexecution: a renter’s task, run again with their consent.',
})
export type AuditKind = z.infer<typeof AuditKind>

export const AuditStatus = z.enum(['open', 'agreed', 'disagreed', 'undecided']).meta({
  id: 'AuditStatus',
  description:
    'agreed: all answers are the same; disagreed: a minority differs, and is at fault; undecided: they differ and there is no majority, or too few have answered.',
})
export type AuditStatus = z.infer<typeof AuditStatus>

export const AuditVerdict = z.enum(['asked', 'agreed', 'at_fault', 'undecided', 'unanswered']).meta({
  id: 'AuditVerdict',
  description: 'What a check says of one GPU. at_fault: owners of other GPUs of its kind agree on another answer.',
})
export type AuditVerdict = z.infer<typeof AuditVerdict>

export const AuditAnswer = z.object({
  task_id: idOf('task'),
  gpu_id: idOf('gpu'),
  gpu_name: z.string(),
  agent_id: idOf('agent'),
  provider_id: idOf('user'),
  verdict: AuditVerdict,
  paid_by_market: z.boolean().describe('false: the renter’s own task, which is checked.'),
  asked_at: Timestamp,
  judged_at: Timestamp.nullable(),
})
export type AuditAnswer = z.output<typeof AuditAnswer>

/** The same question to GPUs of different owners. */
export const Audit = z
  .object({
    id: idOf('audit'),
    kind: AuditKind,
    status: AuditStatus,
    task_type: TaskType,
    model: z.string(),
    device_class: z
      .string()
      .describe('GPUs of one class have to give the same answer: the same hardware, system and version of the agent.'),
    message: z.string().nullable().describe('What came out, for a person.'),
    answers: z.array(AuditAnswer),
    cost: NonNegativeAmount.describe('What it has cost the market so far.'),
    created_at: Timestamp,
    decide_by: Timestamp.describe('Nobody is asked any more after this.'),
    decided_at: Timestamp.nullable(),
  })
  .meta({ id: 'Audit' })
export type Audit = z.output<typeof Audit>

/** What a check has said of one GPU, as its owner sees it. */
export const GpuAudit = z
  .object({
    id: idOf('audit'),
    task_id: idOf('task'),
    kind: AuditKind,
    verdict: AuditVerdict,
    task_type: TaskType,
    model: z.string(),
    message: z.string().nullable(),
    judged_at: Timestamp,
  })
  .meta({ id: 'GpuAudit' })
export type GpuAudit = z.output<typeof GpuAudit>
