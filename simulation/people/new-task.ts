import type { NewTask } from '@orbyte/protocol'
import type { z } from 'zod'
import type { SeededRandom } from '../seeded-random.ts'

/** Long ones outlast a silence after which an agent counts as dead, however early in them it begins. */
export type TaskLengths = { readonly longTasksShare: number }
const longMs = { least: 150_000, most: 300_000 }

/** Some is over at once; some takes longer than an agent may be silent. */
function runMs(random: SeededRandom): number {
  const kind = random.unit()
  if (kind < 0.1) return random.integer(0, 20)
  return kind < 0.3 ? random.integer(85_000, 108_000) : random.waitMs(30_000)
}

/** Most tasks want one GPU, some two of a machine, and many are content with a share of one. */
function requirements(random: SeededRandom): z.input<typeof NewTask>['requirements'] {
  const size = random.unit()
  if (size < 0.1) return { gpu_count: random.pick([2, 2, 4])! }
  if (size < 0.4) return { gpu_milli: random.integer(50, 700), min_vram_gb: random.integer(1, 20) }
  return {}
}

/** Work as it comes: most of it goes well, some fails in each of the ways that work can. */
export function newTask(random: SeededRandom, title: string, { longTasksShare }: TaskLengths): z.input<typeof NewTask> {
  const isLong = random.chance(longTasksShare)
  const fate = random.unit()
  const fails = fate < 0.05 ? 'crash' : fate < 0.08 ? 'out_of_memory' : fate < 0.12 ? 'renter_error' : undefined
  const output = random.chance(0.6) ? title.repeat(random.integer(1, 6)) : ''
  const input_data = {
    prepare_ms: random.chance(0.6) ? random.integer(0, 25_000) : 0,
    sleep_ms: isLong ? random.integer(longMs.least, longMs.most) : runMs(random),
    ...(output !== '' && { output, chunks: random.integer(1, 8) }),
    ...(fails && { fail: fails }),
    ...(random.chance(0.03) && { exit_code: 3 }),
    ...(random.chance(0.2) && { log: ['a line', 'another'] }),
    ...(random.chance(0.1) && { files: [{ name: 'result.txt', text: title.repeat(random.integer(1, 4)) }] }),
    ...(random.chance(0.05) && { ignore_cancel: true }),
  }
  return {
    task_type: 'other',
    title,
    input_data,
    requirements: requirements(random),
    max_price_per_hour: random.pick(['8', '4', '4', '4', '1.000001'])!,
    max_duration_ms: isLong ? longMs.most + 10_000 : random.chance(0.8) ? 110_000 : random.integer(1_000, 50_000),
    ...(random.chance(0.1) && { max_cost: '0.012345' }),
    max_wait_ms: random.integer(20_000, 120_000),
    wait: random.chance(0.9),
    auto_pay: random.chance(0.7),
    priority: random.integer(0, 9),
  }
}
