import { randomBytes } from 'node:crypto'
import { pino } from 'pino'
import type { Clock, Log, Random } from './context.ts'

export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, run) {
    // setTimeout takes 31 bits of milliseconds: a longer wait is made of several.
    const stepMsMax = 2 ** 31 - 1
    let timer: NodeJS.Timeout
    const wait = (restMs: number) => {
      const stepMs = Math.min(restMs, stepMsMax)
      timer = setTimeout(() => (restMs > stepMs ? wait(restMs - stepMs) : run()), stepMs)
    }
    wait(Math.max(0, delayMs))
    return () => clearTimeout(timer)
  },
}

/** Small requests are cut from a larger one: each costs the system as much as 4 KB. */
const randomAtOnceBytes = 4_096
let random = Buffer.alloc(0)

export const systemRandom: Random = {
  bytes(count) {
    if (count > randomAtOnceBytes) return randomBytes(count)
    if (random.length < count) random = randomBytes(randomAtOnceBytes)
    const bytes = random.subarray(0, count)
    random = random.subarray(count)
    return bytes
  },
}

/** Ends this process at once, and says nothing more to anybody. */
export function endProcess(): never {
  process.exit(1)
}

/** Structured lines on standard error; secrets that a field name gives away are not written. */
export function systemLog(level: string): Log {
  const redact = ['password', 'token', 'refresh_token', 'access_token', 'agent_token', 'key', 'authorization'].flatMap(
    (name) => [name, `*.${name}`],
  )
  return pino(
    { level, redact, serializers: { error: pino.stdSerializers.err }, base: undefined },
    pino.destination({ dest: 2, sync: true }),
  )
}
