import type { MarketGpu } from '../gpus/gpu-registry.ts'

/**
 * All that decides whether a GPU can run a task, but for its price and what it does now: the same for many. Profiles are
 * numbered, so that what is known of each can lie in arrays.
 */
export type Profile = {
  readonly number: number
  /** A copy of the first GPU that had it; what is particular to that one means nothing. */
  readonly sample: MarketGpu
}

/** What the ranker chain (rankers.ts) reads of a GPU that is not its price, its record, its machine or what it does now. */
export type ProfileFields = Pick<
  MarketGpu,
  | 'kind'
  | 'model'
  | 'vramGb'
  | 'region'
  | 'sharing'
  | 'taskTypes'
  | 'modelFormats'
  | 'several'
  | 'shares'
  | 'ownModels'
  | 'limits'
>

export function profileFieldsOf(gpu: MarketGpu): ProfileFields {
  const { kind, model, vramGb, region, sharing, taskTypes, modelFormats, several, shares, ownModels, limits } = gpu
  return { kind, model, vramGb, region, sharing, taskTypes, modelFormats, several, shares, ownModels, limits }
}

/** Lists are the same objects until they are reported anew, so this is quick. */
export function hasFields(gpu: MarketGpu, fields: ProfileFields): boolean {
  return (
    gpu.limits === fields.limits &&
    gpu.taskTypes === fields.taskTypes &&
    gpu.modelFormats === fields.modelFormats &&
    gpu.several === fields.several &&
    gpu.shares === fields.shares &&
    gpu.ownModels === fields.ownModels &&
    gpu.region === fields.region &&
    gpu.sharing === fields.sharing &&
    gpu.vramGb === fields.vramGb &&
    gpu.model === fields.model &&
    gpu.kind === fields.kind
  )
}

export function createProfiles() {
  const byKey = new Map<string, Profile>()
  const all: Profile[] = []
  /** Numbers of profiles that are no more. */
  const spare: number[] = []
  let numbers = 0
  return {
    /** In the sequence in which they came. */
    all: all as readonly Profile[],
    of(gpu: MarketGpu, fields: ProfileFields): Profile {
      // Whether the owner's lowest price is kept is seen GPU by GPU.
      const key = JSON.stringify({ ...fields, limits: { ...fields.limits, min_price_per_hour: null } })
      const known = byKey.get(key)
      if (known) return known
      const profile = { number: spare.pop() ?? numbers++, sample: { ...gpu } }
      byKey.set(key, profile)
      all.push(profile)
      return profile
    },
    /** Those that `isUsed` does not hold for are no more, and their numbers are for others. */
    retain(isUsed: (number: number) => boolean) {
      for (const [key, { number }] of byKey) {
        if (isUsed(number)) continue
        byKey.delete(key)
        spare.push(number)
      }
      all.splice(0, all.length, ...byKey.values())
    },
  }
}
