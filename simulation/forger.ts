import type { Network } from '@orbyte/agent/outside.ts'
import type { SeededRandom } from './seeded-random.ts'

/** An attempt that somebody runs, and what fences it. */
export type Victim = { readonly attemptId: string; readonly fencingToken: string; readonly machine: string }

type Parts = {
  readonly random: SeededRandom
  /** The machine that lies. */
  readonly machine: string
  victims(): readonly Victim[]
  onForged(): void
}

/** What it says these instead of: nobody misses them. */
const carriers = ['"type":"attempt.preparing"', '"type":"attempt.log"']

/** What a forged result says, so that it is known wherever it turns up. */
export const forgedMark = 'forged'

/**
 * The network of an agent that was tampered with: instead of how its own attempt gets on it tells, now and then, how an attempt
 * ended that is not its to speak of: another machine's, of which it knows the fencing token, or its own with another token.
 */
export function forging(network: Network, { random, machine, victims, onForged }: Parts): Network {
  function forge(text: string): string {
    const victim = random.pick(victims())
    if (!victim || !random.chance(0.7)) return text
    onForged()
    const seq = (JSON.parse(text) as { seq: number }).seq
    const isOwn = victim.machine === machine
    const fencing_token = isOwn ? Buffer.from(random.bytes(16)).toString('hex') : victim.fencingToken
    const end = random.chance(0.5)
      ? { outcome: 'completed', output_data: { [forgedMark]: true }, fault: null }
      : { outcome: 'failed', output_data: null, fault: 'renter' }
    const result = { attempt_id: victim.attemptId, fencing_token, run_ms: 1_000_000, ...end }
    return JSON.stringify({ seq, type: 'attempt.result', ...result, code: forgedMark, message: forgedMark })
  }

  return {
    connect(url, listener) {
      const socket = network.connect(url, listener)
      return {
        ...socket,
        send: (text) => socket.send(carriers.some((type) => text.includes(type)) ? forge(text) : text),
      }
    },
  }
}
