import { wholeMilli } from '@orbyte/protocol'
import { type MixShape, type Room, type Shape } from '@orbyte/server/scheduler/packing.ts'
import { type CsvRow, readCsv } from './csv.ts'

// The trace's own words: a node is a machine, a pod is a task. https://github.com/alibaba/clusterdata, cluster-trace-gpu-v2023.

export type Machine = { readonly kind: string; readonly room: Room }

/** Pods that ask for the same, and how many of them the trace has. */
export type PodClass = MixShape & { readonly index: number }

export type Trace = {
  readonly machines: readonly Machine[]
  readonly classes: readonly PodClass[]
  /** One entry a pod of the trace. */
  readonly pods: readonly PodClass[]
  /** Thousandths of GPUs in all. */
  readonly totalMilli: number
}

export function readTrace(nodesPath: string, podsPath: string): Trace {
  const machines = readCsv(nodesPath, ['cpu_milli', 'memory_mib', 'gpu', 'model']).map(machineOf)
  const byKey = new Map<string, { -readonly [Field in keyof PodClass]: PodClass[Field] }>()
  const columns = ['cpu_milli', 'memory_mib', 'num_gpu', 'gpu_milli', 'gpu_spec']
  const pods = readCsv(podsPath, columns).map((row) => {
    const shape = shapeOf(row)
    const spec = row.text('gpu_spec')
    const key = JSON.stringify([shape, spec])
    const runsOn = spec === '' ? null : new Set(spec.split('|'))
    const known = byKey.get(key) ?? { index: byKey.size, shape, runsOn, weight: 0 }
    byKey.set(key, known)
    known.weight++
    return known
  })
  const totalMilli = machines.reduce((sum, { room }) => sum + room.freeMilli.length * wholeMilli, 0)
  return { machines, classes: [...byKey.values()], pods, totalMilli }
}

function machineOf(row: CsvRow): Machine {
  const freeMilli = Array<number>(row.count('gpu')).fill(wholeMilli)
  const room = { freeMilli, cpuMilli: row.count('cpu_milli'), ramMib: row.count('memory_mib') }
  return { kind: row.text('model'), room }
}

function shapeOf(row: CsvRow): Shape {
  const gpus = row.count('num_gpu')
  const milliEach = gpus === 0 ? 0 : row.count('gpu_milli')
  const isPart = gpus === 1 && milliEach >= 1 && milliEach < wholeMilli
  if (gpus > 0 && milliEach !== wholeMilli && !isPart)
    throw new Error(`${row.where}: ${gpus} GPUs of ${milliEach} thousandths each: a part can be asked of one GPU only`)
  return { gpus, milliEach, cpuMilli: row.count('cpu_milli'), ramMib: row.count('memory_mib') }
}
