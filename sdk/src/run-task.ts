import {
  type api,
  type GivenTaskInput,
  type InputOf,
  type OutputOf,
  type TaskFile,
  type TaskOutput,
  type TaskType,
} from '@orbyte/protocol'
import type { Client } from './client.ts'
import { endpointTable } from './endpoint-table.ts'
import { OrbyteError } from './orbyte-error.ts'
import { fieldsOfPath } from './request.ts'
import { type TaskEvent, watch } from './watch.ts'

/** A task as `client.tasks.create` takes it, with the input that its type asks for. */
export type NewTaskOf<T extends TaskType> = Omit<InputOf<typeof api.tasks.create>, 'task_type' | 'input_data'> & {
  task_type: T
  input_data: GivenTaskInput<T>
}
/** A task with the output that its type gives. */
export type TaskOf<T extends TaskType> = Omit<OutputOf<typeof api.tasks.get>, 'task_type' | 'output_data'> & {
  task_type: T
  /** Null: it has not completed, or its data was deleted. */
  output_data: TaskOutput<T> | null
}

export type RunOptions = {
  /** Text as it is produced. */
  onOutput?: (text: string) => void
  /** What came so far, if anything, is void: an attempt starts, the first or, on another GPU, the next. */
  onReset?: () => void
  onEvent?: (event: TaskEvent) => void
  /** Called once the task is stored and its money held. */
  onSubmitted?: (task: OutputOf<typeof api.tasks.create>) => void
  /** Stops waiting. The task goes on: `client.tasks.cancel` ends it. */
  signal?: AbortSignal
  idempotencyKey?: string
}

/** Submits a task and waits for its end, whichever it is: look at the `status`, and at `end` for the reason. */
export async function runTask<T extends TaskType>(
  client: Client,
  newTask: NewTaskOf<T>,
  options: RunOptions = {},
): Promise<TaskOf<T>> {
  const { signal, idempotencyKey } = options
  const input = newTask as InputOf<typeof api.tasks.create>
  const submitted = await client.tasks.create(input, { signal, idempotencyKey })
  options.onSubmitted?.(submitted)
  return (await followTask(client, submitted.id, options)) as TaskOf<T>
}

/** Waits for the end of a task that was submitted already; tells of everything from its beginning. */
export async function followTask(
  client: Client,
  taskId: string,
  { onOutput, onReset, onEvent, signal }: Omit<RunOptions, 'onSubmitted' | 'idempotencyKey'> = {},
): Promise<OutputOf<typeof api.tasks.get>> {
  for await (const event of watch(client, taskId, { signal })) {
    onEvent?.(event)
    if (event.type === 'output.appended') onOutput?.(String(event.data.text ?? ''))
    if (event.type === 'output.reset') onReset?.()
  }
  return client.tasks.get({ task_id: taskId }, { signal })
}

/** The bytes of a file that a task has produced: one of `task.files`. */
export async function download(
  client: Client,
  file: Pick<TaskFile, 'url'>,
  options: { signal?: AbortSignal } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const fields = fieldsOfPath(endpointTable.tasks.file, file.url)
  if (!fields)
    throw new OrbyteError({
      code: 'invalid_request',
      detail: `${file.url} is not a file of a task. Take one of task.files.`,
    })
  return client.tasks.file(fields as InputOf<typeof api.tasks.file>, options)
}
