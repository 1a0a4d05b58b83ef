import { makeId, micros, type TaskType } from '@orbyte/protocol'
import { gpuRecord, reportedDevice } from '@orbyte/server/gpus/fixture-gpus.ts'
import { type ConnectedDevice, GpuRegistry, type MarketGpu } from '@orbyte/server/gpus/gpu-registry.ts'
import { type Wanted, wantedOf } from '@orbyte/server/scheduler/matching.ts'
import type { SeededRandom } from '../simulation/seeded-random.ts'

// A market that is made up, with the variety that a large one has: makes, regions, prices, records, software, models at hand.

/** Name, GiB of VRAM, ORB an hour, how common. */
const makes = [
  ['NVIDIA GeForce RTX 3060', 12, 0.08, 6],
  ['NVIDIA GeForce RTX 3080', 10, 0.12, 6],
  ['NVIDIA GeForce RTX 3090', 24, 0.2, 12],
  ['NVIDIA GeForce RTX 4060 Ti', 16, 0.11, 5],
  ['NVIDIA GeForce RTX 4070', 12, 0.15, 6],
  ['NVIDIA GeForce RTX 4080', 16, 0.25, 6],
  ['NVIDIA GeForce RTX 4090', 24, 0.4, 18],
  ['NVIDIA GeForce RTX 5090', 32, 0.65, 8],
  ['NVIDIA RTX A5000', 24, 0.26, 4],
  ['NVIDIA RTX A6000', 48, 0.5, 6],
  ['NVIDIA RTX 6000 Ada Generation', 48, 0.75, 5],
  ['NVIDIA L4', 24, 0.3, 3],
  ['NVIDIA L40S', 48, 0.9, 5],
  ['Tesla T4', 16, 0.12, 4],
  ['Tesla V100-SXM2-32GB', 32, 0.3, 4],
  ['NVIDIA A100-SXM4-40GB', 40, 1.1, 4],
  ['NVIDIA A100-SXM4-80GB', 80, 1.5, 6],
  ['NVIDIA H100 80GB HBM3', 80, 2.4, 6],
  ['NVIDIA H200', 141, 3.2, 2],
  ['AMD Radeon RX 7900 XTX', 24, 0.22, 4],
] as const
const regions = ['eu-north', 'eu-west', 'us-east', 'us-west', 'asia-east', null]
const software: { task_types: TaskType[]; model_formats: string[] }[] = [
  { task_types: ['text_generation', 'embedding'], model_formats: ['gguf', 'wordvec'] },
  { task_types: ['text_generation', 'embedding', 'image_generation'], model_formats: ['gguf', 'wordvec', 'onnx'] },
  { task_types: ['text_generation', 'image_generation'], model_formats: ['gguf', 'onnx'] },
]
const gpusPerMachine = [1, 1, 1, 1, 2, 2, 4, 8]
const modelNames = Array.from({ length: 50 }, (_, number) => `model-${number}`)

/** Few models are had by many, many by few. */
const anyModel = (random: SeededRandom) => modelNames[Math.floor(modelNames.length * random.unit() ** 3)]!

/** In a registry, so that they are the objects that the market has. */
export function marketOf(count: number, random: SeededRandom): MarketGpu[] {
  const registry = new GpuRegistry({ now: () => 0 })
  const common = makes.flatMap((make) => Array<typeof make>(make[3]).fill(make))
  for (let [machine, gpus] = [0, 0]; gpus < count; machine++) {
    const [model, vramGb, typicalPrice] = random.pick(common)!
    const sharing = random.chance(0.3)
    const agentId = idOf('agent', machine)
    const ofMachine = {
      agentId,
      ownerId: idOf('user', Math.floor(machine / 3)),
      model,
      vramGb,
      sharing,
      region: random.pick(regions)!,
    }
    const able = random.pick(software)!
    const price = micros(Math.round(typicalPrice * 1_000_000 * (0.7 + 0.8 * random.unit())))
    const devices: ConnectedDevice[] = []
    for (let left = random.pick(gpusPerMachine)!; left > 0 && gpus < count; left--) {
      const gpuId = idOf('gpu', gpus++)
      const loaded = random.chance(0.6) ? [anyModel(random)] : []
      const counts = { tasksCompleted: random.integer(0, 200), tasksFailed: random.integer(0, 5) }
      registry.put(gpuRecord({ ...ofMachine, id: gpuId, priceMicrosPerHour: price, ...counts }))
      const cached = [...new Set([...loaded, anyModel(random), anyModel(random)])]
      devices.push({ gpuId, device: reportedDevice({ ...able, loaded_models: loaded, cached_models: cached }) })
    }
    registry.connect(agentId, devices)
  }
  return registry.all()
}

export type Kind = 'one' | 'warm' | 'part' | 'several'

/** What tasks ask for: 70 % one GPU with VRAM and a maximum price, 15 % a model, 10 % part of a GPU, 5 % several of one machine. */
export function anyWanted(random: SeededRandom): { kind: Kind; wanted: Wanted } {
  const drawn = random.unit()
  const vramGb = random.pick([8, 8, 12, 16, 24, 24, 40, 48, 80])!
  const region = random.chance(0.2) ? random.pick(regions.slice(0, -1)) : undefined
  const max = (gpus: number) => micros(Math.round(gpus * priceFor(vramGb) * (1.2 + 2.8 * random.unit())))
  const asking = (fields: { vram?: number; model?: string; price?: number }) => ({
    task_type: 'text_generation' as const,
    requirements: { ...(fields.vram && { min_vram_gb: fields.vram }), ...(region && { region }) },
    model: fields.model ?? null,
    max_price_per_hour: fields.price === undefined ? null : micros(fields.price),
  })
  if (drawn < 0.7) return { kind: 'one', wanted: wantedOf(asking({ vram: vramGb, price: max(1) }), null) }
  if (drawn < 0.85) {
    const name = anyModel(random)
    const format = 'gguf'
    const model = { name, format, vram_gb: 6 + (Number(name.slice(6)) % 4) * 6, task_types: ['text_generation'] }
    return { kind: 'warm', wanted: wantedOf(asking({ model: name }), model as never) }
  }
  if (drawn < 0.95) {
    const part = random.pick([
      { milli: 100, vramGb: 2 },
      { milli: 250, vramGb: 6 },
      { milli: 500, vramGb: 12 },
    ])!
    return { kind: 'part', wanted: sized(wantedOf(asking({}), null), { gpus: 1, part }) }
  }
  const gpus = random.pick([2, 2, 4, 8])!
  return {
    kind: 'several',
    wanted: sized(wantedOf(asking({ vram: vramGb, price: max(gpus) }), null), { gpus, part: null }),
  }
}

function sized(wanted: Wanted, size: Pick<Wanted, 'gpus' | 'part'>): Wanted {
  return { ...wanted, ...size, key: `${wanted.key} ${JSON.stringify(size)}` }
}

/** What GPUs with so much VRAM begin at, in micro-ORB an hour. */
function priceFor(vramGb: number): number {
  const prices = makes.filter(([, vram]) => vram >= vramGb).map(([, , price]) => price)
  return Math.min(...prices) * 1_000_000
}

const idOf = (kind: 'user' | 'gpu' | 'agent', number: number) => {
  const bytes = new Uint8Array(10)
  new DataView(bytes.buffer).setUint32(6, number)
  return makeId(kind, 1_772_000_000_000, bytes)
}
