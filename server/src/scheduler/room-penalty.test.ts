import { expect, test } from 'vitest'
import { wholeMilli } from '@orbyte/protocol'
import { marketGpu } from '../gpus/fixture-gpus.ts'
import { Lanes } from './gpu-lane.ts'
import { Profile } from './gpu-profile.ts'
import { createRoomValue } from './packing.ts'
import { kindOf, RoomPenalties } from './room-penalty.ts'

test('room is worth what those lose by it who could use it: of what may be shared more, where half of the tasks want parts', () => {
  const profile = new Profile(0, marketGpu(), new Lanes())
  const [alone, shared] = [kindOf(profile, 0), kindOf(profile, 1)]
  const shape = { gpus: 1, milliEach: wholeMilli, cpuMilli: 0, ramMib: 0 }
  const mix = [
    { shape, weight: 1, runsOn: new Set([alone, shared]) },
    { shape: { ...shape, milliEach: 500 }, weight: 1, runsOn: new Set([shared]) },
  ]
  const supply = new Map([alone, shared].map((kind) => [kind, 10 * wholeMilli]))
  const whole = { gpus: 1, milliEach: wholeMilli }
  const penaltiesOf = (kinds: number[]) => {
    const penalties = new RoomPenalties(createRoomValue(mix, supply))
    return kinds.map((isShared) => penalties.of(whole, { profile, free: 1, isShared }))
  }
  const [ofAlone, ofShared] = penaltiesOf([0, 1])
  expect(ofShared).toBeGreaterThan(ofAlone!)
  // What is known of the one says nothing of the other.
  expect(penaltiesOf([1, 0, 1])).toEqual([ofShared, ofAlone, ofShared])
})
