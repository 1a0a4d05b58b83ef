import fc from 'fast-check'
import { expect, test } from 'vitest'
import { addMeasured, judgeRun, rateOf, type Speed, usualRate } from './speed-estimate.ts'

const anyRate = fc.double({ min: 0.001, max: 1_000, noNaN: true })
const anyRates = fc.array(anyRate, { minLength: 1, maxLength: 20 })

const after = (runs: { work: number; runMs: number }[]) =>
  runs.reduce<Speed | undefined>((speed, run) => addMeasured(speed, run), undefined)

test('a GPU that always does the same has that speed, from its third task on', () => {
  fc.assert(
    fc.property(anyRate, fc.integer({ min: 1, max: 30 }), (rate, tasks) => {
      const runs = Array.from({ length: tasks }, (_, index) => ({
        work: rate * (index + 1) * 100,
        runMs: (index + 1) * 100,
      }))
      const found = rateOf(after(runs))
      if (tasks < 3) expect(found).toBeNull()
      else expect(found! / rate).toBeCloseTo(1, 6)
    }),
  )
})

test('a speed follows what a GPU does lately, and keeps count of all that it did', () => {
  const fast = { work: 1_000, runMs: 1_000 }
  const slow = { work: 1_000, runMs: 10_000 }
  const speed = after([...Array(50).fill(fast), ...Array(20).fill(slow)])!
  expect(rateOf(speed)).toBeGreaterThan(0.1)
  expect(rateOf(speed)).toBeLessThan(0.13)
  expect(speed).toMatchObject({ attempts: 70, work: 70_000, runMs: 250_000 })
})

test('what is usual lies between what owners do, and needs two of them', () => {
  fc.assert(
    fc.property(fc.array(anyRates, { maxLength: 9 }), (byOwner) => {
      const usual = usualRate(byOwner)
      if (byOwner.length < 2) {
        expect(usual).toBeNull()
        return
      }
      const all = byOwner.flat()
      expect(usual).toBeGreaterThanOrEqual(Math.min(...all))
      expect(usual).toBeLessThanOrEqual(Math.max(...all))
    }),
  )
})

test('one owner with impossibly fast GPUs, however many, does not make the others slow', () => {
  fc.assert(
    fc.property(fc.array(anyRate, { minLength: 2, maxLength: 8 }), fc.integer({ min: 1, max: 500 }), (honest, gpus) => {
      const cheats = Array<number>(gpus).fill(1e9)
      expect(usualRate([...honest.map((rate) => [rate]), cheats])).toBeLessThanOrEqual(Math.max(...honest))
    }),
  )
})

test('a run is slow where it took four times what it should and three seconds more', () => {
  expect(judgeRun({ work: 1_000, runMs: 7_000 }, 1)).toEqual({ expectedRunMs: 1_000, slow: false })
  expect(judgeRun({ work: 1_000, runMs: 7_001 }, 1)).toEqual({ expectedRunMs: 1_000, slow: true })
  expect(judgeRun({ work: 1, runMs: 3_000 }, 1)).toMatchObject({ slow: false })
})
