import type { Model, TaskType } from '@orbyte/protocol'
import type { Executor, ExecutorDevice, ExecutorProblem, Use } from '../executors/executor.ts'
import {
  isUnwatched,
  type Rehearsal,
  rehearsalText,
  type Rehearsed,
  remedyOf,
  unwatched,
} from '../executors/rehearsal.ts'
import type { DetectedDevice } from '../gpus/gpu-detector.ts'
import type { Log } from '../outside.ts'

type Place = Pick<ExecutorDevice, 'uuid' | 'kind'>

export type Wanted = {
  readonly devices: readonly Place[]
  readonly taskType: TaskType
  readonly model: Pick<Model, 'name' | 'format'> | null
  readonly input: Readonly<Record<string, unknown>>
  readonly use: Use
}

/** What this machine can do: its executors, of those the ones that work, on which devices, and the models that they bring. */
export class Abilities {
  readonly #executors: readonly Executor[]
  readonly #log: Log
  readonly #problems = new Map<Executor, ExecutorProblem>()
  readonly #models = new Map<Executor, readonly string[]>()
  readonly #working = new Set<Executor>()
  /** What came of it on each GPU, by uuid. */
  readonly #rehearsals = new Map<Executor, Map<string, Rehearsal>>()

  constructor({ executors, log }: { executors: readonly Executor[]; log: Log }) {
    this.#executors = executors
    this.#log = log
  }

  /** Tries those that do not work (yet), here or on one of these devices, and asks the others for their models again. */
  async refresh(devices: readonly DetectedDevice[]): Promise<void> {
    await Promise.all(this.#executors.map((executor) => this.#refreshOne(executor, devices)))
  }

  /** Whether there is a device that nobody has tried. */
  isNew(devices: readonly DetectedDevice[]): boolean {
    const rehearsed = [...this.#working].filter(({ rehearse }) => rehearse !== undefined)
    return devices.some(({ kind, uuid }) => {
      return kind === 'gpu' && rehearsed.some((executor) => !this.#rehearsals.get(executor)?.has(uuid))
    })
  }

  /** On any of the devices. */
  taskTypes(devices: readonly Place[]): TaskType[] {
    return [...new Set(devices.flatMap((device) => this.on(device).task_types))]
  }

  /** What can be done on a device: with all of it, on several like it at once, or on a share of it. */
  on(device: Place, use: Use = 'whole'): { task_types: TaskType[]; model_formats: string[] } {
    const able = [...this.#working].filter((executor) => {
      return this.#computesOn(executor, device) && (use === 'whole' || executor[use])
    })
    return {
      task_types: [...new Set(able.flatMap(({ taskTypes }) => taskTypes))],
      model_formats: [...new Set(able.flatMap(({ modelFormats }) => modelFormats ?? []))],
    }
  }

  /** What came of the rehearsals on a device. */
  rehearsalsOn(deviceUuid: string): Rehearsed[] {
    return [...this.#rehearsals].flatMap(([{ name }, ofDevices]) => {
      const rehearsal = ofDevices.get(deviceUuid)
      return rehearsal === undefined ? [] : [{ executor: name, rehearsal }]
    })
  }

  ownModels(): string[] {
    return [...new Set([...this.#models.values()].flat())].filter((name) => name.length <= 200)
  }

  /** What keeps an executor from working, or a device from being offered as it could be, for a person. */
  problems(devices: readonly Pick<DetectedDevice, 'uuid' | 'model'>[]): string[] {
    const ofDevices = devices.flatMap(({ uuid, model }) => {
      return this.rehearsalsOn(uuid).flatMap((rehearsed) => deviceProblems({ uuid, model }, rehearsed))
    })
    return [
      ...[...this.#problems].map(([{ name }, { message, remedy }]) => `${name}: ${message} ${remedy}`),
      ...ofDevices,
    ]
  }

  executorFor({ devices, taskType, model, input, use }: Wanted): Executor | null {
    const candidates = this.#executors.filter(
      (executor) =>
        this.#working.has(executor) &&
        executor.taskTypes.includes(taskType) &&
        (use === 'whole' || executor[use]) &&
        devices.every((device) => this.#computesOn(executor, device)),
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

  /** Where nothing was tried, nothing is known to compute. */
  #computesOn(executor: Executor, { uuid, kind }: Place): boolean {
    if (executor.rehearse === undefined || kind !== 'gpu') return true
    return (this.#rehearsals.get(executor)?.get(uuid)?.computesBy ?? null) !== null
  }

  async #refreshOne(executor: Executor, devices: readonly DetectedDevice[]): Promise<void> {
    if (!this.#working.has(executor) || executor.models !== undefined) {
      const problem = await executor.check().catch(asProblem)
      this.#note(executor, problem)
    }
    if (this.#working.has(executor)) await this.#rehearse(executor, devices)
    if (executor.models === undefined || !this.#working.has(executor)) return
    this.#models.set(executor, await executor.models().catch(() => []))
  }

  /** A device that is gone is forgotten: another driver may come with it again. */
  async #rehearse(executor: Executor, devices: readonly DetectedDevice[]): Promise<void> {
    const gpus = executor.rehearse === undefined ? [] : devices.filter(({ kind }) => kind === 'gpu')
    if (gpus.length === 0) return void this.#rehearsals.delete(executor)
    const before = this.#rehearsals.get(executor)
    const all = await Promise.all(
      gpus.map(async (device) => {
        const rehearsal = await executor.rehearse!(device, { again: false })
        if (JSON.stringify(before?.get(device.uuid)) !== JSON.stringify(rehearsal))
          logRehearsal(this.#log, device, { executor: executor.name, rehearsal })
        return [device.uuid, rehearsal] as const
      }),
    )
    this.#rehearsals.set(executor, new Map(all))
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

type Named = Pick<DetectedDevice, 'uuid' | 'model'>

function deviceProblems({ uuid, model }: Named, rehearsed: Rehearsed): string[] {
  const { rehearsal } = rehearsed
  if (isUnwatched(uuid, rehearsal)) return [`${model}: ${unwatched.message} ${unwatched.remedy}`]
  return rehearsal.computesBy === null ? [`${model}: ${wholeText(rehearsed)}`] : []
}

function logRehearsal(log: Log, device: Named, rehearsed: Rehearsed): void {
  if (rehearsed.rehearsal.computesBy !== null) log.info(`${device.model}: ${wholeText(rehearsed)}`)
  for (const problem of deviceProblems(device, rehearsed)) log.warn(problem)
}

function wholeText(rehearsed: Rehearsed): string {
  const remedy = remedyOf(rehearsed.rehearsal)
  return `${rehearsalText(rehearsed)}${remedy === null ? '' : ` → ${remedy}`}`
}

function asProblem(error: unknown): ExecutorProblem {
  return { message: error instanceof Error ? error.message : String(error), remedy: 'See the agent’s log.' }
}
