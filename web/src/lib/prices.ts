export type Bin = { from: number; to: number; count: number }

/** How prices are spread: bins of equal width from the lowest to the highest. */
export function distribution(prices: readonly number[], binsMax = 24): Bin[] {
  if (prices.length === 0) return []
  const [low, high] = [Math.min(...prices), Math.max(...prices)]
  const bins = low === high ? 1 : binsMax
  // One price is a narrow bin around it.
  const width = (high - low) / bins || low * 0.08 || 1
  const counts = Array.from({ length: bins }, (_, at) => ({
    from: low + at * width - (bins === 1 ? width / 2 : 0),
    to: low + (at + 1) * width - (bins === 1 ? width / 2 : 0),
    count: 0,
  }))
  for (const price of prices) counts[Math.min(bins - 1, Math.floor((price - low) / width))]!.count++
  return counts
}

export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** The share of the others that ask for more. */
export function cheaperThan(price: number, others: readonly number[]): number | null {
  return others.length === 0 ? null : others.filter((other) => other > price).length / others.length
}
