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

const folder: BenchOption = {
  type: 'string',
  says: 'Where databases go while it runs; on a disk, or durability costs nothing. Default: the system’s temporary folder.',
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
  tasks: {
    says: 'How many tasks a second are submitted, matched, run and settled durably, beside other durable queues.',
    options: {
      tasks: {
        type: 'string',
        default: '20000',
        says: 'A run of tasks that are submitted singly; of batches three times as many.',
      },
      rounds: { type: 'string', default: '3', says: 'Each figure is a median of so many runs.' },
      agents: { type: 'string', default: '200', says: 'Emulated agents, with a GPU each.' },
      providers: { type: 'string', default: '10', says: 'Who own them.' },
      renters: { type: 'string', default: '8', says: 'Who submit, with an API key each.' },
      peers: { type: 'string', default: 'all', says: 'all: those whose server is installed; none.' },
      profile: { type: 'boolean', says: 'Also shows what the market’s time goes into.' },
      folder,
    },
    load: async () => (await import('./tasks-bench.ts')).runTasks,
  },
  agents: {
    says: 'What ten thousand connected agents cost, and how soon all are back after a crash of the market.',
    options: {
      agents: { type: 'string', default: '10000', says: 'How many, with a GPU each.' },
      providers: { type: 'string', default: '100', says: 'Who own them.' },
      tasks: { type: 'string', default: '300', says: 'Submitted one by one, to see how long they are on their way.' },
      rounds: {
        type: 'string',
        default: '3',
        says: 'Each figure is a median of so many runs, each with a market of its own.',
      },
      folder,
    },
    load: async () => (await import('./agents-bench.ts')).runAgents,
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
