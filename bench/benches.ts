import type { Figure } from './figures.ts'

/** An option as `parseArgs` knows it, and what the help says of it. */
export type BenchOption = {
  readonly type: 'string' | 'boolean'
  readonly says: string
  readonly default?: string
  readonly required?: boolean
}

export type Bench = {
  readonly says: string
  readonly options: Record<string, BenchOption>
  /** Its code, and what only it needs, is loaded when it is asked for. `values` are its options. */
  load(): Promise<(values: Record<string, string>) => Promise<Figure[]> | Figure[]>
}

export const benches = {
  matching: {
    says: 'How many tasks a second the matcher finds a GPU for, among 1,000, 10,000 and 100,000 GPUs, and how long one takes.',
    options: {
      runs: { type: 'string', default: '3', says: 'How often each is measured; at least 3.' },
      decisions: { type: 'string', default: '200000', says: 'How many decisions a run.' },
    },
    load: async () => (await import('./matching-bench.ts')).runMatching,
  },
  packing: {
    says: 'How much of a GPU cluster is given out, by how places are chosen: the experiment of the FGD paper (ATC’23).',
    options: {
      nodes: { type: 'string', required: true, says: 'CSV: sn,cpu_milli,memory_mib,gpu,model.' },
      pods: { type: 'string', required: true, says: 'CSV: name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,….' },
      policy: {
        type: 'string',
        default: 'orbyte',
        says: 'random, best-fit, fgd, orbyte; or all: one after the other.',
      },
      seeds: { type: 'string', default: '10', says: 'How many shuffles to take the mean of.' },
      'first-seed': { type: 'string', default: '1', says: 'The first of them.' },
      mix: {
        type: 'string',
        default: 'given',
        says: 'How orbyte knows what is asked for: given, as FGD has it; learnt, from what has arrived so far.',
      },
    },
    load: async () => (await import('./packing-bench.ts')).runPacking,
  },
  serving: {
    says: 'How often a GPU has to load a model first, and how long requests wait, when the matcher knows what is loaded.',
    options: {
      requests: {
        type: 'string',
        required: true,
        says: 'CSV: gmt_create,exec_time_seconds,checkpoint_model_version_id,….',
      },
      busy: { type: 'string', default: '70', says: 'Time is compressed until the GPUs are busy for so many % of it.' },
      patience: {
        type: 'string',
        says: 'Seconds for which a request may be passed over; as in the market, if not given.',
      },
      compression: { type: 'string', says: 'Or: the requests come so many times faster.' },
      seeds: {
        type: 'string',
        default: '3',
        says: 'How many draws of prices and loading times to take the median of.',
      },
    },
    load: async () => (await import('./serving-bench.ts')).runServing,
  },
} satisfies Record<string, Bench>
