import { z } from 'zod'
import { Done, endpoint, JsonObject, pageInput, pageOf, queryInt, Timestamp } from './endpoint.ts'
import { MarketEvent } from './events.ts'
import { Attempt, GpuKind, GpuStatus } from './gpus.ts'
import { idOf } from './ids.ts'
import { NonNegativeAmount, PositiveAmount } from './amounts.ts'
import { gpuCountMax, wholeMilli } from './gpu-shares.ts'
import { End, TaskStatus } from './task-status.ts'
import { durationMsMaxByType, TaskType } from './task-types.ts'

/** What GPUs must be like, and how many or how much of one. Everything that is left out may be anything. */
export const Requirements = z
  .strictObject({
    gpu_id: idOf('gpu').optional().describe('This GPU and no other.'),
    gpu_model: z.string().min(1).max(200).optional().describe('Part of the hardware’s name.'),
    min_vram_gb: z
      .number()
      .positive()
      .max(16_384)
      .optional()
      .describe(
        'GB of each GPU, as GPUs are sold: 24 is a card of 24 GB, of which drivers report 22.4 to 24 GiB. With `gpu_milli`: GiB of the GPU’s VRAM that the task gets.',
      ),
    gpu_count: z.int().min(1).max(gpuCountMax).optional().describe('Whole GPUs, alike and of one machine. Default: 1.'),
    gpu_milli: z
      .int()
      .min(1)
      .max(wholeMilli)
      .optional()
      .describe(
        'A share of one GPU is enough: so many thousandths of its time (milli-GPU), with `min_vram_gb` of its VRAM, and what a process needs beside that. The larger of the two shares is what it takes and pays. 1000, or left out: all of it.',
      ),
    region: z.string().min(1).max(50).optional(),
    min_cpu_cores: z.int().positive().max(16_384).optional().describe('Processor cores of its machine.'),
    min_ram_gb: z.number().positive().max(1_048_576).optional().describe('GiB of memory of its machine.'),
    min_storage_gb: z.number().positive().max(1_048_576).optional().describe('GiB free on its machine’s disk.'),
    kinds: z
      .array(GpuKind)
      .min(1)
      .optional()
      .describe('Default: GPUs, and CPUs and emulated GPUs where the market admits them.'),
  })
  .refine(({ gpu_count = 1, gpu_milli }) => gpu_milli === undefined || gpu_count === 1, {
    path: ['gpu_milli'],
    error: 'A task has either several whole GPUs or a share of one: give gpu_count or gpu_milli, not both.',
  })
  .refine(({ gpu_milli, min_vram_gb }) => gpu_milli === undefined || min_vram_gb !== undefined, {
    path: ['min_vram_gb'],
    error: 'Say how much VRAM the task needs: with gpu_milli that is how much it gets.',
  })
  .refine(({ gpu_count = 1, gpu_id }) => gpu_id === undefined || gpu_count === 1, {
    path: ['gpu_count'],
    error: 'gpu_id asks for one certain GPU: leave it or gpu_count out.',
  })
  .meta({ id: 'Requirements' })
export type Requirements = z.infer<typeof Requirements>

export const NewTask = z
  .strictObject({
    task_type: TaskType,
    input_data: JsonObject.describe('What to do: the shape follows from task_type (TextGenerationInput, …).'),
    title: z.string().trim().min(1).max(200).optional(),
    requirements: Requirements.default({}),
    max_price_per_hour: PositiveAmount.optional().describe(
      'ORB an hour, for all its GPUs together or its share of one. Default: the price of the dearest offer that fits now; required if none fits.',
    ),
    max_duration_ms: z.int().min(1_000).max(604_800_000).optional().describe('Default and maximum: the task type’s.'),
    max_cost: PositiveAmount.optional().describe('Hold this much at most; the task stops when it is used up.'),
    max_wait_ms: z
      .int()
      .min(1_000)
      .max(604_800_000)
      .default(86_400_000)
      .describe('Give up after waiting this long for a GPU. After an attempt that failed it may wait so long again.'),
    wait: z
      .boolean()
      .default(false)
      .describe('Accept the task even if no connected GPU could run it now, and wait for one.'),
    auto_pay: z.boolean().default(true).describe('false: you have a review window before the provider is paid.'),
    allow_reexecution: z
      .boolean()
      .default(false)
      .describe(
        'true: once it has completed, the market may run it again on another owner’s GPU, at its own cost, to check the result. Your input goes to one more machine, and to two more where the two results differ. Only what had one whole GPU is run again.',
      ),
    priority: z.int().min(0).max(9).default(5).describe('Orders your own tasks: 9 goes first.'),
  })
  .refine(({ task_type, max_duration_ms = 0 }) => max_duration_ms <= durationMsMaxByType[task_type], {
    path: ['max_duration_ms'],
    error: ({ input }) => longestOf((input as { task_type: TaskType }).task_type),
  })
  .meta({ id: 'NewTask' })
const longestOf = (type: TaskType) =>
  `A task of type ${type} may run for at most ${durationMsMaxByType[type]} ms. Give that or less, or leave it out.`
export type NewTask = z.output<typeof NewTask>

/** A name within one folder, on every system: no separator, no leading dot, nothing that a header or a shell would read. */
export const TaskFileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/)

export const TaskFile = z
  .object({
    name: TaskFileName,
    mime_type: z.string(),
    size_bytes: z.int().nonnegative(),
    sha256: z.string(),
    url: z.string().describe('Where to download it, on this server.'),
  })
  .meta({ id: 'TaskFile' })
export type TaskFile = z.infer<typeof TaskFile>

const taskFields = {
  id: idOf('task'),
  renter_id: idOf('user'),
  title: z.string().nullable(),
  task_type: TaskType,
  status: TaskStatus,
  gpu_id: idOf('gpu').nullable().describe('The GPU of the current or last attempt; of several, the first.'),
  max_price_per_hour: PositiveAmount,
  max_duration_ms: z.int(),
  max_wait_ms: z.int(),
  auto_pay: z.boolean(),
  allow_reexecution: z.boolean(),
  priority: z.int(),
  hold: NonNegativeAmount.describe('What was reserved at submission: the task never costs more.'),
  cost: NonNegativeAmount.nullable().describe('What it cost; null until it has ended.'),
  run_ms: z.int().nonnegative().describe('Charged run time.'),
  attempts_count: z.int().nonnegative().describe('Attempts that have begun, without trials.'),
  end: End.nullable().describe('Why it ended, and who decided; null until it has.'),
  created_at: Timestamp,
  updated_at: Timestamp,
  started_at: Timestamp.nullable().describe('When it became ready to run for the first time.'),
  completed_at: Timestamp.nullable().describe('When it ended.'),
}

export const TaskSummary = z.object(taskFields).meta({ id: 'TaskSummary' })
export type TaskSummary = z.output<typeof TaskSummary>

export const Reexecution = z.enum(['waiting', 'confirmed', 'refuted', 'undecided']).meta({
  id: 'Reexecution',
  description:
    'waiting: it is being run again; confirmed: another owner’s GPU gave the same result; refuted: others agree on another result, and what you paid is given back where that is still possible; undecided: nobody can say.',
})
export type Reexecution = z.infer<typeof Reexecution>

export const Task = z
  .object({
    ...taskFields,
    requirements: Requirements,
    input_data: JsonObject.nullable().describe('Null once deleted.'),
    output_data: JsonObject.nullable(),
    files: z.array(TaskFile),
    attempts: z.array(Attempt).describe('Oldest first.'),
    waiting: z
      .object({ code: z.string(), message: z.string() })
      .nullable()
      .describe('While it is pending: why, and what would change it.'),
    payment_id: idOf('payment').nullable(),
    reexecution: Reexecution.nullable().describe('What became of running it again; null: it was not.'),
  })
  .meta({ id: 'Task' })
export type Task = z.output<typeof Task>

export const TaskImages = TaskSummary.pick({ id: true, title: true, status: true, cost: true, created_at: true })
  .extend({
    prompt: z.string().nullable(),
    model: z.string().nullable().describe('The catalogue’s name of the model that made them.'),
    images: z.array(TaskFile).min(1),
  })
  .meta({ id: 'TaskImages' })
export type TaskImages = z.output<typeof TaskImages>

export const Offer = z
  .object({
    gpu_id: idOf('gpu').describe('Where a task wants several GPUs: one of the machine that has them.'),
    name: z.string(),
    model: z.string(),
    kind: GpuKind,
    vram_gb: z.number(),
    price_per_hour: NonNegativeAmount.describe(
      'What the task would pay there: for its share, or for all its GPUs together.',
    ),
    region: z.string().nullable(),
    status: GpuStatus,
  })
  .meta({ id: 'Offer' })

export const Rejection = z
  .object({
    code: z.string().describe('Why GPUs do not fit, like "vram_too_small".'),
    message: z.string(),
    gpus: z.int().positive().describe('How many.'),
    retryable: z.boolean().describe('Whether it may change by itself.'),
  })
  .meta({ id: 'Rejection' })

export const Relaxation = z
  .object({
    message: z.string().describe('What is different, like "+0.04 ORB an hour" or "2 GiB less VRAM".'),
    requirements: Requirements.describe('What to ask for instead: all of it.'),
    max_price_per_hour: NonNegativeAmount.nullable(),
    gpus: z.int().positive().describe('How many more GPUs fit with it.'),
    free: z.int().nonnegative().describe('How many of those are free now.'),
  })
  .meta({ id: 'Relaxation' })

const outlook = {
  fitting: z.int().nonnegative().describe('How many connected GPUs fit, free or busy.'),
  free: z.int().nonnegative().describe('How many of them are free now.'),
  rejections: z.array(Rejection).describe('Why the others do not fit, most frequent first.'),
  relaxations: z
    .array(Relaxation)
    .describe('The smallest changes that let more GPUs run it: of one wish where that helps, else of several at once.'),
  expected_cost: z
    .object({ amount: NonNegativeAmount.nullable(), basis: z.string() })
    .describe('On the best offer, and what that is based on. Null: nobody knows.'),
}
const ExpectedWait = z
  .object({ ms: z.int().nonnegative().nullable().describe('Null: nobody knows.'), basis: z.string() })
  .meta({ id: 'ExpectedWait' })

export const Estimate = z
  .object({
    ...outlook,
    expected_wait: ExpectedWait,
    offers: z.array(Offer).describe('The fitting ones, best first, at most 20.'),
    max_price_per_hour: NonNegativeAmount.nullable().describe(
      'What the task’s maximum price would be; null: give one.',
    ),
    max_duration_ms: z.int(),
    hold: NonNegativeAmount.nullable().describe('What would be reserved.'),
    price_per_minute: NonNegativeAmount.nullable().describe('What a minute costs on the best offer, rounded up.'),
  })
  .meta({ id: 'Estimate' })

/** For a task that wants more than what comes free at a time. */
const KeptRoom = z
  .object({
    gpu_ids: z.array(idOf('gpu')).describe('Of one machine.'),
    ready: z.int().nonnegative().describe('How many of them have enough free by now.'),
    expected_at: Timestamp.describe('When it can start there, if what runs there takes as long as such tasks do.'),
    latest_at: Timestamp.describe('The same if all of that takes as long as it may.'),
  })
  .meta({ id: 'KeptRoom' })

export const TaskExplanation = z
  .object({
    task_id: idOf('task'),
    status: TaskStatus,
    code: z.string().describe('Where it stands, for a program: like "gpu_in_use", "no_gpu_fits", or how it ended.'),
    message: z.string().describe('The same for a person, with what would change it.'),
    ...outlook,
    offers: z
      .array(
        Offer.extend({
          fits: z.boolean().describe('Whether it could run the task, free or busy.'),
          rejection: Rejection.omit({ gpus: true }).nullable().describe('What keeps it from taking the task now.'),
        }),
      )
      .describe('The GPUs that fit, best first, then the others.'),
    ahead: z.int().nonnegative().nullable().describe('About how many tasks go before it. Null: it does not wait.'),
    expected_wait: ExpectedWait.nullable(),
    kept_room: KeptRoom.nullable().describe(
      'What is kept for it, or for another that wants the same and goes before it, so that smaller tasks do not take it. Null: nothing is.',
    ),
  })
  .meta({ id: 'TaskExplanation' })

const submissionErrors = [
  'insufficient_funds',
  'no_gpu_fits',
  'price_required',
  'too_many_pending_tasks',
  'too_many_pending_bytes',
  'market_paused',
] as const
const taskId = z.strictObject({ task_id: idOf('task') })

export const tasks = {
  list: endpoint('GET /api/tasks/', {
    summary: 'List all tasks',
    description: 'Yours, newest first.',
    access: 'user',
    input: z.strictObject({ ...pageInput, status: TaskStatus.optional(), task_type: TaskType.optional() }),
    output: pageOf(TaskSummary),
    errors: ['invalid_cursor'],
  }),
  images: endpoint('GET /api/tasks/images', {
    summary: 'The images that your tasks have made',
    description:
      'Task by task, newest first: those of type image_generation that have made some, or are making them, and whose data was not deleted.',
    access: 'user',
    input: z.strictObject(pageInput),
    output: pageOf(TaskImages),
    errors: ['invalid_cursor'],
  }),
  create: endpoint('POST /api/tasks/', {
    summary: 'Submit a new task',
    description: 'Holds the money for its maximum and queues it, both or neither.',
    access: 'user',
    status: 201,
    idempotent: true,
    input: NewTask,
    output: TaskSummary,
    errors: submissionErrors,
  }),
  createBatch: endpoint('POST /api/tasks/batch', {
    summary: 'Submit up to 1,000 tasks at once: all of them or none',
    access: 'user',
    status: 201,
    idempotent: true,
    bodyBytesMax: 16_000_000,
    input: z.strictObject({ tasks: z.array(NewTask).min(1).max(1_000) }),
    output: z.object({ items: z.array(TaskSummary) }),
    errors: submissionErrors,
  }),
  estimate: endpoint('POST /api/tasks/estimate', {
    summary: 'What fits, what it costs, and what would be held: before you submit',
    access: 'user',
    input: NewTask,
    output: Estimate,
  }),
  get: endpoint('GET /api/tasks/{task_id}', {
    summary: 'Get task details',
    access: 'user',
    input: taskId,
    output: Task,
    errors: ['not_found'],
  }),
  explain: endpoint('GET /api/tasks/{task_id}/explain', {
    summary: 'Why a task waits, what would change it, and what each GPU says to it',
    access: 'user',
    input: taskId.extend({ limit: queryInt(1, 1_000).default(100).describe('How many offers to show.') }),
    output: TaskExplanation,
    errors: ['not_found'],
  }),
  cancel: endpoint('POST /api/tasks/{task_id}/cancel', {
    summary: 'Cancel a task',
    description:
      'Final and settled at once: it is charged for the run time up to the agent’s last acknowledged report.',
    access: 'user',
    idempotent: true,
    input: taskId,
    output: TaskSummary,
    errors: ['not_found', 'task_finished'],
  }),
  events: endpoint('GET /api/tasks/{task_id}/events', {
    summary: 'What happens to a task, live: Server-Sent Events',
    description:
      'Starts with what has happened so far; the stream ends when the task has ended. Resume with the `Last-Event-ID` header or `after`.',
    access: 'user',
    reply: 'event-stream',
    input: taskId.extend({
      after: queryInt(0, Number.MAX_SAFE_INTEGER).optional().describe('Only events after this cursor.'),
    }),
    output: MarketEvent,
    errors: ['not_found'],
  }),
  output: endpoint('GET /api/tasks/{task_id}/output', {
    summary: 'The text that the task has produced so far',
    access: 'user',
    reply: 'text',
    input: taskId,
    output: z.string(),
    errors: ['not_found', 'output_deleted'],
  }),
  logs: endpoint('GET /api/tasks/{task_id}/logs', {
    summary: 'The log lines of the task, all attempts',
    access: 'user',
    reply: 'text',
    input: taskId,
    output: z.string(),
    errors: ['not_found', 'output_deleted'],
  }),
  file: endpoint('GET /api/tasks/{task_id}/files/{name}', {
    summary: 'Download a file that the task has produced',
    access: 'user',
    reply: 'bytes',
    input: taskId.extend({ name: z.string().min(1).max(200) }),
    output: z.string(),
    errors: ['not_found', 'output_deleted'],
  }),
  deleteData: endpoint('DELETE /api/tasks/{task_id}/data', {
    summary: 'Delete the input, output, logs and files of a task that has ended',
    access: 'user',
    input: taskId,
    output: Done,
    errors: ['not_found', 'task_not_finished'],
  }),
}
