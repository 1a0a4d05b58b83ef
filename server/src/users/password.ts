import { hash, verify } from '@node-rs/argon2'
import { encodeBase32, problem } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import { createLoginThrottle } from './login-throttle.ts'

/** Argon2id (the package's default algorithm) with OWASP's parameters: 19 MiB, two passes, one thread. About 12 ms. */
const cost = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }
/** What no password hashes to: the account cannot be logged in to. */
export const unusableHash = 'none'

export type Passwords = ReturnType<typeof createPasswords>

/** Hashing takes milliseconds on another thread: hash and check before a transaction, never within. */
export function createPasswords({ clock, random }: Pick<Context, 'clock' | 'random'>) {
  const throttle = createLoginThrottle(clock)
  const hashPassword = (password: string) => hash(password, { ...cost, salt: random.bytes(16) })
  let standIn: Promise<string> | null = null

  return {
    hash: hashPassword,

    /** 120 random bits that can be read aloud. */
    generate: (): string => encodeBase32(random.bytes(15)),

    /**
     * Throws `invalid_credentials` or, after many failures for this address, `rate_limited`. An account that does not exist
     * (`passwordHash` null) costs as much time and is throttled as much as one that does, so that neither tells them apart.
     */
    async check(email: string, passwordHash: string | null, password: string): Promise<void> {
      throttle.begin(email)
      const usable = passwordHash !== null && passwordHash !== unusableHash
      const compared = usable ? passwordHash : await (standIn ??= hashPassword(encodeBase32(random.bytes(16))))
      const fits = await verify(compared, password)
      if (!usable || !fits)
        throw problem('invalid_credentials', 'The email address or the password is wrong. Check both and try again.')
      throttle.succeed(email)
    },
  }
}
