import fc from 'fast-check'
import { expect, test } from 'vitest'
import { marketGpu } from './fixture-gpus.ts'
import { standingFactor } from './gpu-standing.ts'
import { failuresUntilTrial, gpuHealth } from './gpu-status.ts'

const count = fc.nat(1_000)
const counts = fc.record({
  tasksCompleted: count,
  tasksFailed: count,
  tasksSlow: count,
  auditsPassed: count,
  auditsFailed: count,
})

test('nothing that is known against a GPU makes it count for less than its price, nor helps it', () => {
  fc.assert(
    fc.property(counts, (record) => {
      const standing = standingFactor(marketGpu(record))
      expect(standing).toBeGreaterThanOrEqual(1)
      for (const name of ['tasksFailed', 'tasksSlow', 'auditsFailed'] as const)
        expect(standingFactor(marketGpu({ ...record, [name]: record[name] + 1 }))).toBeGreaterThan(standing)
      for (const name of ['tasksCompleted', 'auditsPassed'] as const)
        expect(standingFactor(marketGpu({ ...record, [name]: record[name] + 1 }))).toBeLessThanOrEqual(standing)
    }),
  )
})

test('one that was found wrong once and never right counts twice as dear', () => {
  const fresh = standingFactor(marketGpu())
  expect(standingFactor(marketGpu({ auditsFailed: 1 })) / fresh).toBe(2)
})

test('after three failures in a row a GPU is on trial once it has cooled down, and comes after all others', () => {
  const nowMs = 1_000
  const failing = (failuresInARow: number, coolDownUntilMs: number) => marketGpu({ failuresInARow, coolDownUntilMs })
  expect(gpuHealth(failing(1, nowMs + 1), nowMs)).toBe('cooling_down')
  expect(gpuHealth(failing(failuresUntilTrial - 1, nowMs), nowMs)).toBe('good')
  expect(gpuHealth(failing(failuresUntilTrial, nowMs), nowMs)).toBe('on_trial')
  const worst = marketGpu({ tasksFailed: 1_000, tasksSlow: 100, auditsFailed: 1_000 })
  expect(standingFactor(failing(failuresUntilTrial, nowMs))).toBeGreaterThan(10 * standingFactor(worst))
})
