import { expect, test } from 'vitest'
import { wholeMilli } from '@orbyte/protocol'
import { agentId, marketGpu, numbered } from '../gpus/fixture-gpus.ts'
import { searchAmong } from './fixture-search.ts'
import { wanted } from './fixture-wanted.ts'
import type { Wanted } from './matching.ts'

const startMs = 1_800_000_000_000
/** By then what is known of the mix and of what fits is renewed. */
const laterMs = startMs + 60_000

const asking = (modelName: string) => wanted({ key: modelName, modelName })

/**
 * One GPU can run what asks for `m`, and has had that in memory, but is busy. A machine of eight others is free and cannot: its
 * number, by which it lies in lanes of machines, is that of one of its GPUs.
 */
function busyMarket() {
  const busy = marketGpu({ ...numbered(0), ownModels: ['m'], loadedModels: ['m'] })
  const others = Array.from({ length: 8 }, (_, number) =>
    marketGpu({ ...numbered(1 + number), agentId: agentId(1), model: 'A100', region: 'us' }),
  )
  const { index, search } = searchAmong([busy, ...others].map((gpu) => ({ gpu, freeMilli: wholeMilli })))
  index.put(Object.assign(busy, { loadedModels: [] }), { isThere: true, freeMilli: 0 })
  const chosen = (asked: Wanted, nowMs: number) => search.choose(asked, { nowMs, random: () => 0 })?.gpus ?? null
  /** Until the next name makes the index forget those that no GPU has. */
  const nameOthers = (count: number) => {
    for (let number = 0; number < count; number++) index.holdersOf(`other ${number}`)
  }
  return { busy, index, search, chosen, nameOthers }
}

test('what was learnt of a model that the same renewal makes the index forget is not used, and no GPU is chosen that does not fit', () => {
  const { index, search, chosen, nameOthers } = busyMarket()
  for (const asked of [asking('m'), asking('new'), wanted({ key: 'seven', gpus: 7 })]) search.arrived(asked)
  nameOthers(999)
  const { numbering } = index
  expect(chosen(asking('m'), laterMs)).toBeNull()
  expect(index.numbering).toBeGreaterThan(numbering)
})

test('a model that a single task has made the index forget is learnt anew, and a GPU that has it by then is found', () => {
  const { busy, index, chosen, nameOthers } = busyMarket()
  expect(chosen(asking('m'), startMs)).toBeNull()
  nameOthers(999)
  const { numbering } = index
  chosen(asking('new'), startMs)
  expect(index.numbering).toBeGreaterThan(numbering)
  chosen(wanted({ key: 'seven', gpus: 7 }), startMs)
  expect(chosen(asking('m'), startMs)).toBeNull()
  index.put(Object.assign(busy, { loadedModels: ['m'] }), { isThere: true, freeMilli: wholeMilli })
  expect(chosen(asking('m'), startMs)).toEqual([busy])
})
