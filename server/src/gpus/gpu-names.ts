/** Words that say who made a device, or what any device is, and not which one it is. */
const wordsWithoutMeaning = new Set([
  ...['nvidia', 'geforce', 'tesla', 'amd', 'ati', 'radeon', 'instinct', 'intel', 'apple', 'corporation', 'inc'],
  ...['gpu', 'cpu', 'processor', 'graphics', 'generation', 'card', 'with'],
  ...['hbm2', 'hbm2e', 'hbm3', 'hbm3e', 'gddr6', 'gddr6x', 'gddr7'],
])
const trademarks = /\((?:r|tm|c)\)|[®™©]/g
const clockSpeed = /@\s*\d+(?:\.\d+)?\s*ghz/g
/** "24GB", "80 GiB". VRAM is compared as a number, so it does not belong in the name. */
const memorySize = /(?<![\p{L}\p{N}.])\d+(?:\.\d+)?\s*gi?b?(?![\p{L}\p{N}])/gu
const coreCount = /(?<![\p{L}\p{N}])\d+-core(?![\p{L}\p{N}])/gu

/**
 * What names the same kind of device in two ways of writing it: "NVIDIA GeForce RTX 4090", "RTX 4090" and "rtx4090" are all
 * "rtx4090". What makes another product stays: Ti, Super, Laptop, SXM4, PCIe. Never empty for a name that is not.
 */
export function normaliseGpuName(name: string): string {
  const plain = name.normalize('NFKC').toLowerCase()
  const words = plain
    .replace(trademarks, ' ')
    .replace(clockSpeed, ' ')
    .replace(memorySize, ' ')
    .replace(coreCount, ' ')
    .split(/[^\p{L}\p{M}\p{N}+]+/u)
  return words.filter((word) => !wordsWithoutMeaning.has(word)).join('') || plain.replace(/\s+/g, '')
}

/** GPUs of one make are about equally fast. */
export const makeOf = ({ kind, model }: { kind: string; model: string }): string => `${kind} ${normaliseGpuName(model)}`
