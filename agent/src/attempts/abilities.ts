import type { Model, TaskType } from '@orbyte/protocol'
import type { Executor, ExecutorProblem, Use } from '../executors/executor.ts'
import type { Log } from '../outside.ts'

export type Wanted = {
  readonly taskType: TaskType
  readonly model: Pick<Model, 'name' | 'format'> | null
  readonly input: Readonly<Record<string, unknown>>
  readonly use: Use
}

/** What this machine can do: its executors, of those the ones that work, and the models that they bring. */
export class Abilities {
  readonly #executors: readonly Executor[]
  readonly #log: Log
  readonly #problems = new Map<Executor, ExecutorProblem>()
  readonly #models = new Map<Executor, readonly string[]>()
  readonly #working = new Set<Executor>()

  constructor({ executors, log }: { executors: readonly Executor[]; log: Log }) {
    this.#executors = executors
    this.#log = log
  }

  /** Tries those that do not work (yet), and asks the others for their models again. */
  async refresh(): Promise<void> {
    await Promise.all(this.#executors.map((executor) => this.#refreshOne(executor)))
  }

  taskTypes(): TaskType[] {
    return [...new Set([...this.#working].flatMap(({ taskTypes }) => taskTypes))]
  }

  modelFormats(): string[] {
    return [...new Set([...this.#working].flatMap(({ modelFormats }) => modelFormats ?? []))]
  }

  /** Of that, what can be done on several GPUs at once, or on a share of one. */
  limitedTo(use: Exclude<Use, 'whole'>): { task_types: TaskType[]; model_formats: string[] } {
    const able = [...this.#working].filter((executor) => executor[use])
    return {
      task_types: [...new Set(able.flatMap(({ taskTypes }) => taskTypes))],
      model_formats: [...new Set(able.flatMap(({ modelFormats }) => modelFormats ?? []))],
    }
  }

  ownModels(): string[] {
    return [...new Set([...this.#models.values()].flat())].filter((name) => name.length <= 200)
  }

  /** What keeps an executor from working, for a person. */
  problems(): string[] {
    return [...this.#problems].map(([{ name }, { message, remedy }]) => `${name}: ${message} ${remedy}`)
  }

  executorFor({ taskType, model, input, use }: Wanted): Executor | null {
    const candidates = this.#executors.filter(
      (executor) =>
        this.#working.has(executor) && executor.taskTypes.includes(taskType) && (use === 'whole' || executor[use]),
    )
    const name = model?.name ?? input['model']
    const loader = candidates.find(({ modelFormats }) => model !== null && modelFormats?.includes(model.format))
    const owner = candidates.find((executor) => this.#models.get(executor)?.includes(String(name)))
    if (loader !== undefined || owner !== undefined || model !== null) return loader ?? owner ?? null
    const needsNoFile = candidates.filter(({ modelFormats }) => modelFormats === null)
    return needsNoFile.find(({ models }) => models === undefined || typeof name !== 'string') ?? null
  }

  /** Frees what is kept warm on a device. */
  async free(deviceUuid: string): Promise<void> {
    await Promise.allSettled(this.#executors.map(async (executor) => await executor.free?.(deviceUuid)))
  }

  async #refreshOne(executor: Executor): Promise<void> {
    if (!this.#working.has(executor) || executor.models !== undefined) {
      const problem = await executor.check().catch(asProblem)
      this.#note(executor, problem)
    }
    if (executor.models === undefined || !this.#working.has(executor)) return
    this.#models.set(executor, await executor.models().catch(() => []))
  }

  #note(executor: Executor, problem: ExecutorProblem | null): void {
    const known = this.#problems.get(executor)
    if (problem === null) {
      if (!this.#working.has(executor)) this.#log.info(`The ${executor.name} executor works.`)
      this.#working.add(executor)
      this.#problems.delete(executor)
      return
    }
    if (known?.message !== problem.message) {
      this.#log.warn(`The ${executor.name} executor does not work: ${problem.message} ${problem.remedy}`)
    }
    this.#problems.set(executor, problem)
    this.#working.delete(executor)
    this.#models.delete(executor)
  }
}

function asProblem(error: unknown): ExecutorProblem {
  return { message: error instanceof Error ? error.message : String(error), remedy: 'See the agent’s log.' }
}
