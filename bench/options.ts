/** A whole number from 1. */
export function countOf(values: Record<string, string>, name: string): number {
  const count = Number(values[name])
  if (!Number.isInteger(count) || count < 1) throw new Error(`--${name} is a whole number from 1, not ${values[name]}`)
  return count
}
