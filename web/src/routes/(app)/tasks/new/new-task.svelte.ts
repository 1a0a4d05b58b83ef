import type { api, InputOf, OutputOf, TaskType } from '@orbyte/protocol'
import { client } from '$lib/client.ts'
import { fieldsOf, type FormField, type FormValues, inputOf, valuesOf } from '$lib/form-fields.ts'

type Contract = typeof import('@orbyte/protocol')
type Estimate = OutputOf<typeof api.tasks.estimate>
type Requirements = Estimate['relaxations'][number]['requirements']
export type TaskDraft = InputOf<typeof api.tasks.create>
export type Limits = {
  title: string
  max_price_per_hour: string
  max_minutes: string
  max_cost: string
  gpu_count: string
  gpu_percent: string
  min_vram_gb: string
  min_cpu_cores: string
  min_ram_gb: string
  min_storage_gb: string
  gpu_model: string
  region: string
  priority: string
  wait: boolean
  auto_pay: boolean
}

export const noLimits: Limits = {
  title: '',
  max_price_per_hour: '',
  max_minutes: '',
  max_cost: '',
  gpu_count: '',
  gpu_percent: '',
  min_vram_gb: '',
  min_cpu_cores: '',
  min_ram_gb: '',
  min_storage_gb: '',
  gpu_model: '',
  region: '',
  priority: '5',
  wait: false,
  auto_pay: true,
}

/** A task that is being written. The contract's schemas make its form and check it; they come with the page and not before. */
export class NewTask {
  type = $state<TaskType>('text_generation')
  values = $state.raw<FormValues>({})
  free = $state('{}')
  limits = $state<Limits>({ ...noLimits })
  gpuId = $state<string | null>(null)
  /** Nothing is called wrong before somebody has tried to send it. */
  hasTried = $state(false)
  #contract: Contract

  constructor(contract: Contract) {
    this.#contract = contract
  }

  fields: FormField[] | null = $derived.by(() => fieldsOf(this.#contract.taskInputJsonSchema(this.type)))
  #input: { data: Record<string, unknown>; errors: Record<string, string> } = $derived.by(() => this.#check())

  get errors(): Record<string, string> {
    return this.#input.errors
  }

  /** As the API takes it, and what is wrong with the limits: whoever has written one sees that at once. */
  #checked: { draft: TaskDraft | null; errors: Record<string, string> } = $derived.by(() => {
    const draft = this.#written()
    const errors: Record<string, string> = {}
    for (const { path, code, message } of this.#contract.NewTask.safeParse(draft).error?.issues ?? [])
      errors[path.join('.')] ??= code === 'invalid_type' ? 'Write a number.' : message
    const isRight = Object.keys(errors).length + Object.keys(this.#input.errors).length === 0
    return { draft: isRight ? draft : null, errors }
  })

  /** Null while it does not fit the contract. */
  get draft(): TaskDraft | null {
    return this.#checked.draft
  }

  get limitErrors(): Record<string, string> {
    return this.#checked.errors
  }

  #written(): TaskDraft {
    const limits = this.limits
    const number = (text: string) => (text.trim() === '' ? undefined : Number(text))
    const minutes = number(limits.max_minutes)
    return {
      task_type: this.type,
      input_data: this.#input.data as TaskDraft['input_data'],
      title: limits.title.trim() || undefined,
      requirements: {
        gpu_id: this.gpuId ?? undefined,
        gpu_model: limits.gpu_model.trim() || undefined,
        gpu_count: number(limits.gpu_count),
        gpu_milli: milliOf(number(limits.gpu_percent)),
        min_vram_gb: number(limits.min_vram_gb),
        min_cpu_cores: number(limits.min_cpu_cores),
        min_ram_gb: number(limits.min_ram_gb),
        min_storage_gb: number(limits.min_storage_gb),
        region: limits.region.trim() || undefined,
      },
      max_price_per_hour: limits.max_price_per_hour.trim() || undefined,
      max_duration_ms: minutes === undefined ? undefined : Math.round(minutes * 60_000),
      max_cost: limits.max_cost.trim() || undefined,
      priority: Number(limits.priority),
      wait: limits.wait,
      auto_pay: limits.auto_pay,
    }
  }

  #check() {
    const data = this.fields ? inputOf(this.fields, this.values) : parseObject(this.free)
    if (data === null) return { data: {}, errors: { input_data: 'This is no JSON object.' } }
    const checked = this.#contract.taskInputs[this.type].safeParse(data)
    const errors: Record<string, string> = {}
    for (const { path, message } of checked.error?.issues ?? []) errors[String(path[0] ?? 'input_data')] ??= message
    return { data, errors }
  }

  choose(type: TaskType) {
    this.type = type
    this.hasTried = false
  }

  /** Asks for what the market says would let more GPUs run it. */
  relax({
    requirements,
    max_price_per_hour,
  }: Pick<Estimate['relaxations'][number], 'requirements' | 'max_price_per_hour'>) {
    this.#ask(requirements)
    if (max_price_per_hour !== null) this.limits.max_price_per_hour = max_price_per_hour
  }

  #ask(wants: Requirements) {
    this.gpuId = wants.gpu_id ?? null
    Object.assign(this.limits, {
      gpu_model: wants.gpu_model ?? '',
      gpu_count: String(wants.gpu_count ?? ''),
      gpu_percent: wants.gpu_milli === undefined ? '' : String(wants.gpu_milli / 10),
      min_vram_gb: String(wants.min_vram_gb ?? ''),
      min_cpu_cores: String(wants.min_cpu_cores ?? ''),
      min_ram_gb: String(wants.min_ram_gb ?? ''),
      min_storage_gb: String(wants.min_storage_gb ?? ''),
      region: wants.region ?? '',
    })
  }

  /** Writes the same again, to be changed. */
  async copyOf(taskId: string) {
    const task = await client.tasks.get({ task_id: taskId })
    this.type = task.task_type
    if (task.input_data) {
      if (this.fields) this.values = valuesOf(this.fields, task.input_data)
      else this.free = JSON.stringify(task.input_data, null, 2)
    }
    this.limits = { ...noLimits, title: task.title ?? '', priority: String(task.priority), auto_pay: task.auto_pay }
    this.#ask(task.requirements)
  }
}

/** The contract counts thousandths of a GPU, people say percent. */
const milliOf = (percent: number | undefined) => (percent === undefined ? undefined : Math.round(percent * 1e5) / 1e4)

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}
