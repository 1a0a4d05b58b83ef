import { z } from 'zod'
import { JsonObject } from './endpoint.ts'
import { DeviceSpecs, GpuKind, Telemetry } from './gpus.ts'
import { idOf } from './ids.ts'
import { Model } from './models.ts'
import { PositiveAmount, NonNegativeAmount } from './amounts.ts'
import { TaskType } from './task-types.ts'
import { TaskFileName } from './tasks.ts'
import { gpuCountMax, wholeMilli } from './gpu-shares.ts'

/**
 * The dialogue between an agent and the server: JSON messages over one WebSocket at `/api/agents/connect`, opened by the agent.
 *
 *   server  challenge          a nonce to sign
 *   agent   hello              its key and signature, its devices, what it can run, the attempts that it still has
 *   server  welcome            its id, its GPUs, which attempts to keep and which to stop
 *           or refused         why, and whether to come back
 *   agent   heartbeat          every `heartbeat_ms`: telemetry, and how long each attempt has run
 *   server  heartbeat.ack      the renewed deadline of each attempt; one that is not named is not the agent's any more
 *   server  attempt.start      run this, unless the deadline has passed
 *   agent   attempt.accepted   it will; or attempt.refused, and the next GPU is asked
 *   agent   attempt.preparing  fetching or loading; not charged
 *   agent   attempt.ready      the work starts: the meter starts
 *   agent   attempt.output, attempt.log, attempt.file    as they are produced
 *   agent   attempt.result     how it ended; kept by the agent until it is acknowledged
 *   server  attempt.stop       stop this attempt: cancelled, reclaimed or fenced off
 *   server  ack                everything up to `seq` is durable
 *
 * Agent messages with a `seq` (1, 2, 3, … within an agent process, which `instance` names) are reliable: the agent keeps each
 * until an `ack` covers it and sends it again after a reconnect. A message that arrives twice has no second effect. One that is
 * missing is noticed: by the next number, or by the next heartbeat, which says how far the agent has counted. The server then
 * refuses to go on, and the agent comes back and sends again. What the server says is repeated by the answer to the next
 * heartbeat, as far as it matters. So the dialogue does not depend on the connection being a perfect one.
 *
 * Every message about an attempt carries its fencing token; one with a token that is not current changes nothing and is
 * acknowledged. Durations cross the wire, never clock readings: the two clocks need not agree.
 *
 * An agent counts an attempt's deadline from the moment it sent the heartbeat that renewed it, and stops the attempt by itself
 * when it passes. The server counts from when it answered, so the agent has always stopped first.
 */
export const agentProtocolVersion = 2
export const agentSocketPath = '/api/agents/connect'
/** The largest message that either side reads, in bytes: an output of the largest size, and what is around it. */
export const agentMessageBytesMax = 16_000_000
/** File bytes in one `attempt.file`, before base64. */
export const fileChunkBytesMax = 256 * 1024

const seq = z.int().positive()
const attempt = { attempt_id: idOf('attempt'), fencing_token: z.string().min(1).max(64) }
const runMs = z.int().nonnegative().describe('Run time since ready, by the agent’s clock.')

const TaskAbilities = z.object({
  task_types: z.array(TaskType),
  model_formats: z.array(z.string().max(100)).max(100),
})

export const ReportedDevice = z.object({
  uuid: z.string().min(1).max(200).describe('Stable over restarts: the driver’s UUID where there is one.'),
  index: z.int().nonnegative(),
  kind: GpuKind,
  model: z.string().min(1).max(200),
  vram_mib: z.number().positive().max(16_777_216).describe('As its driver says. At most 16 TiB.'),
  usable_vram_mib: z
    .number()
    .positive()
    .max(16_777_216)
    .nullable()
    .default(null)
    .describe('Of that, what a task can have: the driver and the engine take the rest. Null: all, as far as is known.'),
  process_vram_mib: z
    .number()
    .nonnegative()
    .max(16_777_216)
    .default(0)
    .describe('What each process takes beside what its task uses: of it, the engine’s. Each share has one.'),
  specs: DeviceSpecs,
  task_types: z.array(TaskType),
  model_formats: z.array(z.string().max(100)).max(100).describe('Formats that its executors can load.'),
  own_models: z
    .array(z.string().max(200))
    .max(1_000)
    .describe('Models of a server that the owner runs, by its own names.'),
  loaded_models: z.array(z.string().max(200)).max(100).describe('Catalogue models in memory now.'),
  cached_models: z.array(z.string().max(200)).max(1_000).describe('Catalogue models on disk.'),
  paused: z.boolean().describe('The owner takes no new tasks now (drain, reclaim, hours of the day).'),
  several: TaskAbilities.describe('What it can run on several GPUs of its machine at once.'),
  shares: TaskAbilities.describe('What it can run on a share of a GPU, apart from what others run on the rest of it.'),
  price_per_hour: PositiveAmount.nullable().describe('For a device that is not registered yet.'),
  sharing: z.boolean().describe('The same: whether tasks may have shares of it.'),
  name: z.string().max(100).nullable(),
  limits: z.object({
    task_types: z.array(TaskType).nullable().describe('Only these; null: all that it can run.'),
    models: z.array(z.string().max(200)).nullable(),
    min_price_per_hour: NonNegativeAmount.nullable(),
  }),
})
export type ReportedDevice = z.output<typeof ReportedDevice>

const HeldAttempt = z.object({
  ...attempt,
  status: z
    .enum(['accepted', 'preparing', 'running', 'ended'])
    .describe('"ended": its result is kept and will be sent.'),
  run_ms: runMs,
})

export const AgentMessage = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    protocol_version: z.int(),
    agent_version: z.string().max(50),
    instance: z.string().min(1).max(64).describe('Random, new for each agent process: `seq` counts within it.'),
    public_key: z.string().max(200).describe('Ed25519, base64url.'),
    signature: z.string().max(200).describe('Of "orbyte-agent:" and the challenge’s nonce, base64url.'),
    agent_token: z.string().max(200).nullable().describe('Enrols the key, the first time.'),
    acked_seq: z
      .int()
      .nonnegative()
      .default(0)
      .describe('Of this instance: everything up to here was acknowledged. The next number follows.'),
    hostname: z.string().max(200),
    os: z.string().max(200),
    region: z.string().max(50).nullable(),
    devices: z.array(ReportedDevice).max(256),
    attempts: z.array(HeldAttempt).max(256),
  }),
  z.object({ type: z.literal('devices'), seq, devices: z.array(ReportedDevice).max(256) }),
  z.object({
    type: z.literal('heartbeat'),
    id: z.int().nonnegative().describe('Comes back in the acknowledgement.'),
    last_seq: z.int().nonnegative().default(0).describe('The last number that was sent before this.'),
    devices: z.array(z.object({ uuid: z.string().max(200), telemetry: Telemetry })).max(256),
    attempts: z.array(z.object({ ...attempt, run_ms: runMs })).max(256),
  }),
  z.object({ type: z.literal('attempt.accepted'), seq, ...attempt }),
  z.object({
    type: z.literal('attempt.refused'),
    seq,
    ...attempt,
    code: z.string().max(100),
    message: z.string().max(2_000),
  }),
  z.object({ type: z.literal('attempt.preparing'), seq, ...attempt, progress: z.string().max(200) }),
  z.object({ type: z.literal('attempt.ready'), seq, ...attempt }),
  z.object({
    type: z.literal('attempt.output'),
    seq,
    ...attempt,
    offset: z.int().nonnegative().describe('Characters (UTF-16) of output before this text.'),
    text: z.string().max(65_536),
    run_ms: runMs,
  }),
  z.object({
    type: z.literal('attempt.log'),
    seq,
    ...attempt,
    offset: z.int().nonnegative().describe('Lines of its log before these.'),
    lines: z.array(z.string().max(16_384)).max(100),
    run_ms: runMs,
  }),
  z.object({
    type: z.literal('attempt.file'),
    seq,
    ...attempt,
    name: TaskFileName,
    mime_type: z.string().regex(/^[a-z]+\/[a-z0-9.+-]+$/),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    size_bytes: z.int().nonnegative(),
    offset: z.int().nonnegative(),
    data: z
      .base64()
      .max(Math.ceil(fileChunkBytesMax / 3) * 4)
      .describe('At most 256 KiB of the file.'),
    run_ms: runMs,
  }),
  z.object({
    type: z.literal('attempt.result'),
    seq,
    ...attempt,
    outcome: z.enum(['completed', 'failed', 'stopped']),
    run_ms: runMs,
    output_data: JsonObject.nullable(),
    code: z.string().max(100),
    message: z.string().max(2_000),
    fault: z.enum(['renter', 'provider']).nullable().describe('Whose fault a failure was.'),
  }),
])
export type AgentMessage = z.output<typeof AgentMessage>
export type AgentMessageOf<T extends AgentMessage['type']> = Extract<AgentMessage, { type: T }>
export type ReliableAgentMessage = Extract<AgentMessage, { seq: number }>

const AssignedGpu = z.object({
  uuid: z.string(),
  gpu_id: idOf('gpu'),
  name: z.string(),
  price_per_hour: NonNegativeAmount,
  maintenance: z.boolean(),
  cool_down_ms: z.int().nonnegative().default(0).describe('Nothing is offered to it for so long: it has failed.'),
  on_trial: z.boolean().default(false).describe('It has failed several times in a row: it comes after all others.'),
})

export const ServerMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('challenge'), protocol_version: z.int(), nonce: z.string() }),
  z.object({
    type: z.literal('welcome'),
    agent_id: idOf('agent'),
    heartbeat_ms: z.int().positive(),
    gpus: z.array(AssignedGpu),
    refused_devices: z.array(z.object({ uuid: z.string(), code: z.string(), message: z.string() })),
    attempts: z
      .array(z.object({ ...attempt, action: z.enum(['keep', 'stop']), deadline_in_ms: z.int() }))
      .describe('What to do with each attempt of the hello.'),
    acked_seq: z.int().nonnegative().describe('Of this instance: everything up to here is durable.'),
  }),
  z.object({
    type: z.literal('refused'),
    code: z.string(),
    message: z.string(),
    retry: z.boolean().describe('false: coming back will not help.'),
  }),
  z.object({ type: z.literal('ack'), seq: z.int().nonnegative() }),
  z.object({
    type: z.literal('heartbeat.ack'),
    id: z.int().nonnegative(),
    acked_seq: z
      .int()
      .nonnegative()
      .default(0)
      .describe('Everything up to here is durable: an `ack` may have got lost.'),
    attempts: z.array(z.object({ ...attempt, deadline_in_ms: z.int() })),
  }),
  z.object({ type: z.literal('gpus'), gpus: z.array(AssignedGpu) }),
  z.object({
    type: z.literal('attempt.start'),
    ...attempt,
    task_id: idOf('task'),
    devices: z
      .array(
        z.object({
          uuid: z.string(),
          milli: z.int().min(1).max(wholeMilli).describe('Thousandths of it: 1000 is all of it.'),
          vram_mib: z.int().positive().nullable().describe('MiB that it may use; null: all.'),
        }),
      )
      .min(1)
      .max(gpuCountMax)
      .describe('What it has of the machine’s devices: one or several whole ones, or a share of one.'),
    task_type: TaskType,
    input: JsonObject,
    model: Model.nullable().describe('The catalogue entry of the model to use; its URLs may be paths on this server.'),
    duration_ms_max: z.int().positive(),
    deadline_in_ms: z.int().positive(),
    output_bytes_max: z.int().positive(),
  }),
  z.object({ type: z.literal('attempt.stop'), ...attempt, reason: z.string() }),
])
export type ServerMessage = z.output<typeof ServerMessage>
export type ServerMessageOf<T extends ServerMessage['type']> = Extract<ServerMessage, { type: T }>
