import { type Wanted, wantedOf } from './matching.ts'

/** A task that any GPU can run, unless `fields` say otherwise. */
export function wanted(fields: Partial<Wanted> = {}): Wanted {
  const asking = { task_type: 'text_generation' as const, requirements: {}, model: null, max_price_per_hour: null }
  return { ...wantedOf(asking, null), ...fields }
}
