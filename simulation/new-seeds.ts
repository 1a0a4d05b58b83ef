import { execFileSync } from 'node:child_process'

/** Far from those that people try by hand. */
const lowest = 1_000_000
const highest = 1_000_000_000

/**
 * Where this version of the sources looks in worlds that no version before it has looked in. From the commit, so that a check that
 * is run again finds the same; from the time of day where there is no commit.
 */
export function firstNewSeed(): number {
  return lowest + ((commitNumber() ?? Date.now()) % (highest - lowest))
}

function commitNumber(): number | null {
  try {
    const commit = execFileSync('git', ['rev-parse', 'HEAD'], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return Number.parseInt(commit.slice(0, 12), 16)
  } catch {
    return null
  }
}
