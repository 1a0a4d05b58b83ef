import { spawn } from 'node:child_process'
import type { Defect } from './defects.ts'
import { makePatchedCopy } from './patched-copy.ts'

export type Finding = {
  /** How many seeds it took; null: none of them showed it. */
  readonly seeds: number | null
  /** The promise that it broke, and how that showed. */
  readonly shown: string
}

/** Runs worlds on a copy of the product with the defect in it, from seed 1 on, until a promise is broken. */
export async function findDefect(defect: Defect, seedsMax: number): Promise<Finding> {
  const copy = makePatchedCopy(defect)
  try {
    for (let seed = 1; seed <= seedsMax; seed++) {
      const output = await simulate(copy.folder, seed)
      const shown = /^seed \d+, after \d+ steps: (.*)$/m.exec(output)?.[1]
      if (shown !== undefined) return { seeds: seed, shown }
      if (!output.includes('"simulate.violations","value":0'))
        throw new Error(`${defect.name}: it did not run:\n${output}`)
    }
    return { seeds: null, shown: '' }
  } finally {
    copy.remove()
  }
}

function simulate(folder: string, seed: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const flags = ['--seeds', '1', '--first-seed', String(seed), '--processes', '1']
    const child = spawn(process.execPath, ['--import', 'tsx', 'simulation/simulate.ts', ...flags], { cwd: folder })
    let output = ''
    child.stdout.on('data', (data: Buffer) => (output += data.toString()))
    child.stderr.on('data', (data: Buffer) => (output += data.toString()))
    child.on('error', reject)
    child.on('close', () => resolve(output))
  })
}
