import { expect, test } from 'vitest'
import { defaultPriceMicrosPerHour } from './gpu-default-prices.ts'
import { orb } from './fixture-gpus.ts'
import { describeDifferences, gibFromMib, isSameVram, isSoldAs, processGb, usableGb } from './gpu-hardware.ts'

test('sizes are GiB with two decimals', () => {
  expect(gibFromMib(24_564)).toBe(23.99)
  expect(gibFromMib(81_559)).toBe(79.65)
  expect(gibFromMib(1)).toBe(0.01)
})

test.each([
  [24, 23.99, true],
  [24, 22.86, true],
  [24, 22.85, false],
  [80, 79.65, true],
  [12, 24, false],
])('%d GiB registered and %d GiB detected are the same VRAM: %s', (registered, detected, same) => {
  expect(isSameVram(registered, detected)).toBe(same)
})

test.each([
  ['GeForce RTX 4090', 24_564, 24],
  ['L4, with error correction', 23_034, 24],
  ['Tesla T4, with error correction', 15_360, 16],
  ['L40S, with error correction', 46_068, 48],
  ['A100 40 GB', 40_960, 40],
  ['H100 80 GB', 81_559, 80],
  ['H200', 143_771, 141],
])('a %s, of which the driver says %d MiB, is sold as %d GB and not as more', (_name, vramMib, soldGb) => {
  expect(isSoldAs(gibFromMib(vramMib), soldGb)).toBe(true)
  expect(isSoldAs(gibFromMib(vramMib), soldGb * 1.1)).toBe(false)
})

test('what tasks can have of a GPU is said in tenths of GiB, rounded down, and is never more than it has', () => {
  const of = (vram_mib: number, usable_vram_mib: number | null) => usableGb({ vram_mib, usable_vram_mib })
  expect([of(81_559, 81_051), of(24_564, null), of(24_564, 24_564), of(1_024, 1)]).toEqual([79.1, 23.99, 23.9, 0.1])
  expect(of(1_024, 2_048)).toBe(1)
  expect([0, 28, 610].map((process_vram_mib) => processGb({ process_vram_mib }))).toEqual([0, 0.03, 0.6])
})

test('what was registered differs only beyond rounding and beyond spelling', () => {
  const detected = { model: 'NVIDIA GeForce RTX 4090', vramGb: 23.99 }
  expect(describeDifferences({ model: 'rtx 4090', vramGb: 24 }, detected)).toEqual([])
  expect(describeDifferences({ model: 'rtx 4090', vramGb: 23.5 }, detected)).toEqual([
    'registered as 23.5 GiB, detected 23.99 GiB',
  ])
  expect(describeDifferences({ model: 'RTX 4080', vramGb: 25 }, detected)).toEqual([
    'registered as RTX 4080, detected NVIDIA GeForce RTX 4090',
    'registered as 25 GiB, detected 23.99 GiB',
  ])
})

test('a device without a price starts at that of its kind', () => {
  expect(defaultPriceMicrosPerHour('gpu', 'NVIDIA GeForce RTX 4090')).toBe(orb(0.34))
  expect(defaultPriceMicrosPerHour('emulated', 'rtx4090')).toBe(orb(0.34))
  expect(defaultPriceMicrosPerHour('gpu', 'NVIDIA H100 80GB HBM3')).toBe(orb(2.69))
  expect(defaultPriceMicrosPerHour('gpu', 'a card that nobody knows')).toBe(orb(0.4))
  expect(defaultPriceMicrosPerHour('cpu', 'AMD EPYC 7763 64-Core Processor')).toBe(orb(0.1))
})
