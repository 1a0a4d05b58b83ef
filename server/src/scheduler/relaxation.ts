import { formatOrb, type Micros, micros, type Requirements } from '@orbyte/protocol'

/** A smallest change of what a task asks for that lets more GPUs run it. */
export type Relaxation = {
  /** What to ask for instead: all of it, not only what is different. */
  readonly requirements: Requirements
  readonly maxPriceMicrosPerHour: Micros | null
  /** What is different, for a person, like "+0.04 ORB an hour". */
  readonly message: string
  /** How many GPUs fit with it that do not fit without, and how many of those are free. */
  readonly gpus: number
  readonly free: number
}

export const relaxationsMax = 10

export const higherPrice = (most: number, price: number): string => `+${formatOrb(micros(price - most))} ORB an hour`
export const lessVram = (askedGb: number, vramGb: number): string =>
  `${Math.round((askedGb - vramGb) * 100) / 100} GiB less VRAM`

/** What is given up as a whole: the field, and what that means to a person. */
type Droppable = { readonly field: keyof Requirements; says(asked: Requirements): string }
export const droppable: Readonly<Record<'model' | 'region' | 'kind' | 'gpu' | 'cores' | 'ram' | 'storage', Droppable>> =
  {
    model: { field: 'gpu_model', says: ({ gpu_model }) => `any GPU instead of ${gpu_model}` },
    region: { field: 'region', says: ({ region }) => `any region instead of ${region}` },
    kind: { field: 'kinds', says: () => 'any kind of device' },
    gpu: { field: 'gpu_id', says: () => 'any GPU instead of this one' },
    cores: { field: 'min_cpu_cores', says: () => 'any number of processor cores' },
    ram: { field: 'min_ram_gb', says: () => 'any amount of memory in its machine' },
    storage: { field: 'min_storage_gb', says: () => 'any amount of free disk' },
  }
