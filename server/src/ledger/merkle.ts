import { hash } from 'node:crypto'

/**
 * The Merkle tree of RFC 6962, section 2.1: leaves are hashed with a leading 0, inner nodes with a leading 1, and a tree of n
 * leaves splits at the largest power of two below n. Hashes are hex SHA-256.
 */
export function hashLeaf(text: string): string {
  return hash('sha256', `\0${text}`)
}

export function sha256Hex(text: string): string {
  return hash('sha256', text)
}

/** Root of a tree of at least one leaf hash. */
export function merkleRoot(leaves: readonly string[]): string {
  if (leaves.length === 1) return leaves[0]!
  const split = splitOf(leaves.length)
  return hashNode(merkleRoot(leaves.slice(0, split)), merkleRoot(leaves.slice(split)))
}

/** The sibling hashes on the way from leaf `index` to the root, the leaf's own sibling first. */
export function inclusionPath(leaves: readonly string[], index: number): string[] {
  if (leaves.length === 1) return []
  const split = splitOf(leaves.length)
  const [left, right] = [leaves.slice(0, split), leaves.slice(split)]
  return index < split
    ? [...inclusionPath(left, index), merkleRoot(right)]
    : [...inclusionPath(right, index - split), merkleRoot(left)]
}

function splitOf(count: number): number {
  return 2 ** Math.floor(Math.log2(count - 1))
}

function hashNode(left: string, right: string): string {
  return hash('sha256', Buffer.from(`01${left}${right}`, 'hex'))
}
