import { z } from 'zod'
import { GpuAudit } from './audits.ts'
import { Done, endpoint, pageInput, pageOf, queryBoolean, Timestamp } from './endpoint.ts'
import { idOf } from './ids.ts'
import { NonNegativeAmount, PositiveAmount } from './amounts.ts'
import { wholeMilli } from './gpu-shares.ts'
import { AttemptStatus, End } from './task-status.ts'
import { TaskType } from './task-types.ts'

export const GpuStatus = z.enum(['available', 'in_use', 'maintenance', 'offline']).meta({
  id: 'GpuStatus',
  description:
    'available: it could take a task now; in_use: a task runs on it, or on a share of it; maintenance: its owner takes no new tasks; offline: no connected agent backs it.',
})
export type GpuStatus = z.infer<typeof GpuStatus>

export const Liveness = z.enum(['alive', 'suspect', 'unknown', 'dead']).meta({
  id: 'Liveness',
  description: 'What the agent’s silence says: heard lately, 15 s, 30 s, 90 s ago.',
})
export type Liveness = z.infer<typeof Liveness>

export const GpuKind = z.enum(['gpu', 'cpu', 'emulated']).meta({
  id: 'GpuKind',
  description: 'A real GPU, a CPU that is offered as one, or an emulated GPU (development only).',
})
export type GpuKind = z.infer<typeof GpuKind>

export const GpuHealth = z.enum(['good', 'cooling_down', 'on_trial']).meta({
  id: 'GpuHealth',
  description:
    'good: it takes tasks; cooling_down: it has failed or not answered, and is offered nothing for a while; on_trial: it has failed several times in a row, and gets one task at a time, and only where no other GPU is free.',
})
export type GpuHealth = z.infer<typeof GpuHealth>

/** Far above what any device measures, and small enough to be added up. */
const measureMax = 1_000_000

export const Telemetry = z
  .object({
    utilization_percent: z.number().min(0).max(100).nullable(),
    vram_used_gb: z.number().min(0).max(measureMax).nullable(),
    temperature_celsius: z.number().min(-measureMax).max(measureMax).nullable(),
    power_watts: z.number().min(0).max(measureMax).nullable(),
  })
  .meta({ id: 'Telemetry' })
export type Telemetry = z.infer<typeof Telemetry>

/** What an agent found. Sizes are GiB as the driver reports MiB. */
export const DeviceSpecs = z.object({
  driver: z.string().max(200).nullable(),
  compute_capability: z.string().max(50).nullable(),
  os: z.string().max(200),
  cpu_model: z.string().max(200),
  cpu_cores: z.int().positive(),
  ram_gb: z.number().positive().max(measureMax),
  storage_gb: z
    .number()
    .min(0)
    .max(1_000 * measureMax)
    .nullable(),
})
export type DeviceSpecs = z.infer<typeof DeviceSpecs>

export const Gpu = z
  .object({
    id: idOf('gpu'),
    owner_id: idOf('user'),
    name: z.string(),
    model: z.string().describe('The hardware, like "NVIDIA GeForce RTX 4090".'),
    kind: GpuKind,
    vram_gb: z.number().positive().describe('GiB, as its driver says. For a CPU: its RAM.'),
    usable_vram_gb: z
      .number()
      .positive()
      .describe('GiB that tasks can have of that: what a model needs has to fit in here, and shares are shares of it.'),
    price_per_hour: NonNegativeAmount,
    region: z.string().nullable(),
    status: GpuStatus,
    liveness: Liveness.nullable().describe('Null: no agent has ever backed it.'),
    draining: z.boolean().describe('In maintenance, and a task is still finishing.'),
    sharing: z.boolean().describe('Its owner lets several tasks have shares of it at the same time.'),
    free_milli: z
      .int()
      .min(0)
      .max(wholeMilli)
      .describe('Thousandths of it that no task has. A GPU that is not shared has all of it free, or nothing.'),
    task_types: z.array(TaskType).describe('What its agent can run.'),
    models: z.array(z.string()).describe('Models that it can run.'),
    agent_id: idOf('agent').nullable(),
    differences: z.array(z.string()).describe('Where what was registered differs from what the agent detected.'),
    specs: DeviceSpecs.nullable(),
    telemetry: Telemetry.nullable(),
    tasks_completed: z.int().nonnegative(),
    tasks_failed: z.int().nonnegative().describe('Failures that were the provider’s.'),
    tasks_slow: z.int().nonnegative().describe('Tasks that took far longer than they take on other GPUs of its kind.'),
    audits_passed: z.int().nonnegative().describe('Checks by the market in which it agreed with GPUs of other owners.'),
    audits_failed: z.int().nonnegative().describe('Checks in which it was found wrong.'),
    health: GpuHealth,
    cool_down_until: Timestamp.nullable().describe('While it is cooling down: until when.'),
    created_at: Timestamp,
    last_seen_at: Timestamp.nullable(),
  })
  .meta({ id: 'Gpu' })
export type Gpu = z.output<typeof Gpu>

const Name = z.string().trim().min(1).max(100)
const ModelText = z.string().trim().min(1).max(200)
const VramGb = z.number().positive().max(16_384)
const Region = z.string().trim().min(1).max(50)

export const gpuFilters = {
  model: z.string().max(200).optional().describe('Part of the hardware’s name, upper and lower case alike.'),
  min_vram: z.coerce.number<string | number>().nonnegative().optional().describe('GB, as in requirements.min_vram_gb.'),
  max_price: NonNegativeAmount.optional().describe('ORB an hour.'),
  status: GpuStatus.optional(),
  region: Region.optional(),
  owner: idOf('user').optional(),
  kind: GpuKind.optional(),
  task_type: TaskType.optional(),
  available: queryBoolean.optional().describe('Only those that could take a task now.'),
  sort: z
    .enum(['price', '-price', 'vram', '-vram', 'created', '-created'])
    .default('price')
    .describe('"-": descending.'),
}

/** What an attempt has of one GPU. */
export const AttemptGpu = z
  .object({
    gpu_id: idOf('gpu'),
    gpu_name: z.string(),
    milli: z.int().min(1).max(wholeMilli).describe('Thousandths of the GPU: 1000 is all of it.'),
    vram_gb: z.number().positive().nullable().describe('GiB that it may use; null: all that the GPU has.'),
    price_per_hour: NonNegativeAmount.describe('What that costs an hour: the GPU’s price times the share, rounded up.'),
  })
  .meta({ id: 'AttemptGpu' })
export type AttemptGpu = z.output<typeof AttemptGpu>

export const Attempt = z
  .object({
    id: idOf('attempt'),
    task_id: idOf('task'),
    gpu_id: idOf('gpu').describe('The first of its GPUs.'),
    gpu_name: z.string(),
    gpu_model: z.string(),
    gpu_kind: GpuKind,
    gpus: z.array(AttemptGpu).min(1).describe('All GPUs that it has, of one machine.'),
    number: z.int().positive().describe('1 for the first try.'),
    status: AttemptStatus,
    progress: z.string().nullable().describe('What it is doing before it is ready, like "fetching tinylm 40 %".'),
    price_per_hour: NonNegativeAmount.describe('Of all its GPUs together. Frozen for this attempt.'),
    run_ms: z.int().nonnegative().describe('Charged run time so far.'),
    cost: NonNegativeAmount,
    end: End.nullable(),
    trial: z
      .boolean()
      .describe('The GPU had failed several times in a row, and this was its trial: it is no attempt of the task’s.'),
    expected_run_ms: z
      .int()
      .nonnegative()
      .nullable()
      .describe('What such work takes on such a GPU, as measured on others; null: not known, or it was not completed.'),
    slow: z.boolean().describe('It took far longer than that.'),
    offered_at: Timestamp,
    accepted_at: Timestamp.nullable(),
    ready_at: Timestamp.nullable().describe('When the meter started.'),
    ended_at: Timestamp.nullable(),
  })
  .meta({ id: 'Attempt' })
export type Attempt = z.output<typeof Attempt>

export const PricePoint = z
  .object({ price_per_hour: NonNegativeAmount, changed_at: Timestamp })
  .meta({ id: 'PricePoint' })
export const TelemetryPoint = Telemetry.extend({
  at: Timestamp.describe('Start of the minute that is averaged.'),
  status: GpuStatus,
}).meta({ id: 'TelemetryPoint' })

export const GpuSpeed = z
  .object({
    model: z.string(),
    task_type: TaskType,
    unit: z.string().describe('What is counted: "tokens", "sampling steps", "characters" of the texts to embed.'),
    per_second: z.number().nullable().describe('Lately; null: too few tasks to say.'),
    attempts: z.int().positive().describe('Completed tasks that were measured.'),
    run_ms: z.int().nonnegative().describe('How long they ran together.'),
  })
  .meta({ id: 'GpuSpeed' })
export type GpuSpeed = z.output<typeof GpuSpeed>

const gpuId = z.strictObject({ gpu_id: idOf('gpu') })

export const GpuExplanation = z
  .object({
    gpu_id: idOf('gpu'),
    status: GpuStatus,
    code: z.string().describe('What matters most, for a program: like "earns", "others_were_better", "gpu_offline".'),
    message: z.string().describe('The same for a person, with what to do.'),
    considered: z.int().nonnegative().describe('The last tasks of the market that got a GPU, at most 500.'),
    since: Timestamp.nullable().describe('When the first of those did. Null: none has since the market was started.'),
    fitted: z.int().nonnegative().describe('How many of them it could run, as it is now.'),
    won: z.int().nonnegative().describe('How many of them it got.'),
    lost: z
      .array(z.object({ code: z.string(), message: z.string(), tasks: z.int().positive() }))
      .describe('Why it got none of the others, most frequent first. A task may count for several reasons.'),
    others_price_per_hour: NonNegativeAmount.nullable().describe(
      'What those asked that got the tasks which it could run: the middle of it.',
    ),
    price: z.object({
      price_per_hour: NonNegativeAmount,
      compared_with: z.string(),
      gpus: z.int().nonnegative().describe('How many GPUs of others and yours it is compared with.'),
      cheaper: z.int().nonnegative().describe('How many of those are cheaper.'),
      lowest: NonNegativeAmount.nullable(),
      median: NonNegativeAmount.nullable(),
      highest: NonNegativeAmount.nullable(),
    }),
  })
  .meta({ id: 'GpuExplanation' })

export const gpus = {
  list: endpoint('GET /api/gpus/', {
    summary: 'List all available GPUs',
    description:
      'All GPUs of the market that match the filters; `available=true` for those that could take a task now.',
    access: 'public',
    input: z.strictObject({ ...pageInput, ...gpuFilters }),
    output: pageOf(Gpu),
    errors: ['invalid_cursor'],
  }),
  mine: endpoint('GET /api/gpus/mine', {
    summary: 'List your own GPUs',
    access: 'user',
    input: z.strictObject({ ...pageInput }),
    output: pageOf(Gpu),
    errors: ['invalid_cursor'],
  }),
  create: endpoint('POST /api/gpus/', {
    summary: 'Register a new GPU',
    description:
      'It is offline until an agent of yours reports a device that matches: the same model and its VRAM within 5 %. Agents also register the devices that they find by themselves.',
    access: 'user',
    status: 201,
    input: z.strictObject({
      name: Name,
      model: ModelText,
      vram_gb: VramGb.describe('GiB.'),
      price_per_hour: PositiveAmount,
      region: Region.optional(),
    }),
    output: Gpu,
    errors: ['too_many_gpus'],
  }),
  get: endpoint('GET /api/gpus/{gpu_id}', {
    summary: 'Get GPU details',
    access: 'public',
    input: gpuId,
    output: Gpu,
    errors: ['not_found'],
  }),
  update: endpoint('PUT /api/gpus/{gpu_id}', {
    summary: 'Update GPU details',
    description: 'Only the fields that are given change. A new price counts for attempts that start later.',
    access: 'user',
    input: gpuId.extend({
      name: Name.optional(),
      model: ModelText.optional().describe('Only while no agent has backed it.'),
      vram_gb: VramGb.optional().describe('Only while no agent has backed it.'),
      price_per_hour: PositiveAmount.optional(),
      region: Region.nullable().optional(),
      maintenance: z.boolean().optional().describe('true: finish what runs, take nothing new.'),
      sharing: z
        .boolean()
        .optional()
        .describe('true: several tasks may have shares of it at the same time. What runs goes on.'),
    }),
    output: Gpu,
    errors: ['not_found', 'forbidden', 'gpu_backed'],
  }),
  explain: endpoint('GET /api/gpus/{gpu_id}/explain', {
    summary: 'Why a GPU of yours does or does not earn',
    description:
      'The tasks that got a GPU lately, judged for this one at its price of now, and its price beside those of its kind.',
    access: 'user',
    input: gpuId,
    output: GpuExplanation,
    errors: ['not_found', 'forbidden'],
  }),
  delete: endpoint('DELETE /api/gpus/{gpu_id}', {
    summary: 'Delete a GPU; its history stays',
    description: 'While an agent is connected with it, it would be registered again: stop the agent first.',
    access: 'user',
    input: gpuId,
    output: Done,
    errors: ['not_found', 'forbidden', 'gpu_in_use', 'gpu_connected'],
  }),
  reclaim: endpoint('POST /api/gpus/{gpu_id}/reclaim', {
    summary: 'Take your GPU back at once',
    description: 'Stops what runs on it (uncharged, and tried elsewhere) and puts it into maintenance.',
    access: 'user',
    input: gpuId,
    output: Gpu,
    errors: ['not_found', 'forbidden'],
  }),
  attempts: endpoint('GET /api/gpus/{gpu_id}/attempts', {
    summary: 'What ran on your GPU, newest first',
    access: 'user',
    input: gpuId.extend(pageInput),
    output: pageOf(Attempt),
    errors: ['not_found', 'forbidden'],
  }),
  audits: endpoint('GET /api/gpus/{gpu_id}/audits', {
    summary: 'What the market’s checks have said of your GPU, newest first',
    access: 'user',
    input: gpuId.extend(pageInput),
    output: pageOf(GpuAudit),
    errors: ['not_found', 'forbidden'],
  }),
  prices: endpoint('GET /api/gpus/{gpu_id}/prices', {
    summary: 'The price history of a GPU, newest first',
    access: 'public',
    input: gpuId,
    output: z.object({ items: z.array(PricePoint) }),
    errors: ['not_found'],
  }),
  speeds: endpoint('GET /api/gpus/{gpu_id}/speeds', {
    summary: 'How fast a GPU really is, by model, as measured on the tasks that it completed',
    access: 'public',
    input: gpuId,
    output: z.object({ items: z.array(GpuSpeed) }),
    errors: ['not_found'],
  }),
  telemetry: endpoint('GET /api/gpus/{gpu_id}/telemetry', {
    summary: 'Utilisation, VRAM, temperature and power by the minute, newest first',
    access: 'public',
    input: gpuId.extend({
      since: Timestamp.optional().describe('Default: 24 hours ago.'),
    }),
    output: z.object({ items: z.array(TelemetryPoint) }),
    errors: ['not_found'],
  }),
}
