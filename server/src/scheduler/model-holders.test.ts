import { expect, test } from 'vitest'
import { wholeMilli } from '@orbyte/protocol'
import { marketGpu } from '../gpus/fixture-gpus.ts'
import { Lanes } from './gpu-lane.ts'
import { Profile } from './gpu-profile.ts'
import { Holders } from './model-holders.ts'

const warmths = ['loaded', 'cached'] as const
const levels = [wholeMilli, 1]

test('each profile, warmth and level has a lane of its own, which stays, and one that is forgotten is known no more', () => {
  const lanes = new Lanes()
  const profiles = [0, 1].map((number) => new Profile(number, marketGpu(), lanes))
  const holders = new Holders(lanes)
  const kinds = profiles.flatMap((profile) =>
    warmths.flatMap((warmth) => levels.map((level) => ({ profile, warmth, level }))),
  )
  const laneOf = ({ profile, warmth, level }: (typeof kinds)[number]) => holders.laneOf(profile, warmth, level)
  const numbers = kinds.map(laneOf)
  expect(new Set(numbers).size).toBe(kinds.length)
  expect(kinds.map(laneOf)).toEqual(numbers)
  expect(holders.all).toEqual(kinds.map((kind, at) => ({ ...kind, lane: numbers[at] })))

  holders.retain((profile) => profile === profiles[1])
  expect(holders.all.map(({ lane }) => lane)).toEqual(numbers.slice(4))
  expect(kinds.slice(4).map(laneOf)).toEqual(numbers.slice(4))
  const again = kinds.slice(0, 4).map(laneOf)
  expect(new Set([...again, ...numbers.slice(4)]).size).toBe(kinds.length)
  expect(holders.all).toHaveLength(kinds.length)
  for (const kind of kinds) expect(lanes.levels[laneOf(kind)]).toBe(kind.level)
})
