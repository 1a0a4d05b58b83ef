/** What the model says of an image on its way from noise (time 0) to picture (time 1): in which direction to go on. */
export type Velocity = (image: Float32Array, time: number, condition: Float32Array) => Promise<Float32Array>

export type SampleOptions = {
  readonly condition: Float32Array
  readonly steps: number
  /** How far to go beyond what the model says without a condition, towards what it says with it. */
  readonly guidance: number
  readonly seed: number
  readonly signal: AbortSignal
}

/**
 * Draws a sample of a rectified-flow model by Euler's method with classifier-free guidance (Liu et al., arXiv 2209.03003;
 * Ho and Salimans, arXiv 2207.12598). The model answers for both conditions at once, the given one first and none second.
 */
export async function sampleFlow(velocity: Velocity, length: number, options: SampleOptions): Promise<Float32Array> {
  const { condition, steps, guidance, seed, signal } = options
  const normal = normalNumbers(seed)
  const image = Float32Array.from({ length }, normal)
  const conditions = new Float32Array(2 * condition.length)
  conditions.set(condition)
  const pair = new Float32Array(2 * length)
  for (let step = 0; step < steps; step++) {
    signal.throwIfAborted()
    pair.set(image)
    pair.set(image, length)
    const direction = await velocity(pair, step / steps, conditions)
    for (let index = 0; index < length; index++) {
      const without = direction[length + index]!
      image[index]! += (without + guidance * (direction[index]! - without)) / steps
    }
  }
  return image
}

/** Normally distributed numbers, the same for a seed on every machine: mulberry32 and the Box-Muller transform. */
export function normalNumbers(seed: number): () => number {
  let state = seed >>> 0
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return () => Math.sqrt(-2 * Math.log(uniform() + 1e-12)) * Math.cos(2 * Math.PI * uniform())
}

/** Rows of red, green and blue bytes, from one plane of numbers for each colour. */
export function pixelsOf(planes: Float32Array, toByte: (value: number) => number): Uint8Array {
  const count = planes.length / 3
  const pixels = new Uint8Array(planes.length)
  for (let index = 0; index < planes.length; index++) {
    const value = Math.max(0, Math.min(255, toByte(planes[index]!)))
    pixels[3 * (index % count) + Math.floor(index / count)] = value
  }
  return pixels
}
