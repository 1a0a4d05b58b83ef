import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto'
import type { Random, Storage } from './outside.ts'

/** Who this machine is to the market: an Ed25519 key that never leaves its data folder. */
export type Identity = {
  /** The 32 bytes of the public key, base64url. */
  readonly publicKey: string
  /** The first 16 hex digits of the SHA-256 of that text, as the market shows it. */
  readonly fingerprint: string
  /** Proves that the key is here: a signature of the server's nonce, base64url. */
  signNonce(nonce: string): string
}

const fileName = 'identity.pem'
/** PKCS #8 for Ed25519 (RFC 8410), up to the 32 bytes of the key. */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')

/** Reads the machine's key, or makes one the first time. */
export async function loadIdentity({ storage, random }: { storage: Storage; random: Random }): Promise<Identity> {
  const pem = await storage.read(fileName)
  if (pem !== null) return identityOf(readKey(pem))
  const key = createPrivateKey({
    key: Buffer.concat([pkcs8Prefix, random.bytes(32)]),
    format: 'der',
    type: 'pkcs8',
  })
  await storage.write(fileName, key.export({ format: 'pem', type: 'pkcs8' }).toString(), { durable: true })
  return identityOf(key)
}

function readKey(pem: string): KeyObject {
  try {
    const key = createPrivateKey(pem)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch {
    // Said below: what is wrong with the file does not matter to its owner.
  }
  throw new Error(
    `The key in ${fileName} cannot be read. Bring it back from a copy, or delete it: the machine then enrols as a new one.`,
  )
}

function identityOf(key: KeyObject): Identity {
  const publicKey = createPublicKey(key).export({ format: 'jwk' }).x!
  return {
    publicKey,
    fingerprint: createHash('sha256').update(publicKey).digest('hex').slice(0, 16),
    signNonce: (nonce) => sign(null, Buffer.from(`orbyte-agent:${nonce}`), key).toString('base64url'),
  }
}
