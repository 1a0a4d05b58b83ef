import { spawn } from 'node:child_process'
import { UsageError } from '../simulate-options.ts'
import { type Defect, defects } from './defects.ts'
import { makePatchedCopy } from './patched-copy.ts'

export type DefectReport = {
  readonly defect: string
  /** How many seeds it took; null: none of them showed it. */
  readonly seeds: number | null
  /** The promise that it broke, and how that showed. */
  readonly shown: string
}
type Wish = {
  /** The name of one; null: all. */
  readonly only: string | null
  readonly seedsMax: number
  readonly hours: number
  readonly processes: number
  onEnd(report: DefectReport): void
}

/** Looks for each planted defect, a few at a time. */
export async function lookForDefects({ only, processes, onEnd, ...search }: Wish): Promise<DefectReport[]> {
  const meant = defects.filter(({ name }) => only === null || name === only)
  if (meant.length === 0)
    throw new UsageError(
      `--defect: there is none of that name. There are:\n${defects.map(({ name }) => name).join('\n')}`,
    )
  const reports = new Map<Defect, DefectReport>()
  const left = [...meant]
  async function work() {
    for (let defect = left.shift(); defect; defect = left.shift()) {
      const report = await findDefect(defect, search)
      reports.set(defect, report)
      onEnd(report)
    }
  }
  await Promise.all(Array.from({ length: Math.min(processes, meant.length) }, work))
  return meant.map((defect) => reports.get(defect)!)
}

type Search = { readonly seedsMax: number; readonly hours: number }
type Found = { readonly violations: readonly { seed: number; promise: string; message: string }[] }

/** Runs worlds on a copy of the product with the defect in it, from seed 1 on, until a promise is broken. */
export async function findDefect(defect: Defect, { seedsMax, hours }: Search): Promise<DefectReport> {
  const copy = makePatchedCopy(defect)
  try {
    const flags = ['--seeds', seedsMax, '--hours', hours, '--processes', 1, '--until-broken', '--json'].map(String)
    const output = await simulate(copy.folder, flags)
    const [first] = (JSON.parse(output.trim().split('\n').at(-1)!) as Found).violations
    const shown = first ? `${first.promise}: ${first.message}` : ''
    return { defect: defect.name, seeds: first?.seed ?? null, shown }
  } finally {
    copy.remove()
  }
}

function simulate(folder: string, flags: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'simulation/simulate.ts', ...flags], { cwd: folder })
    let output = ''
    let errors = ''
    child.stdout.on('data', (data: Buffer) => (output += data.toString()))
    child.stderr.on('data', (data: Buffer) => (errors += data.toString()))
    child.on('error', reject)
    child.on('close', () => (output === '' ? reject(new Error(`it did not run:\n${errors}`)) : resolve(output)))
  })
}
