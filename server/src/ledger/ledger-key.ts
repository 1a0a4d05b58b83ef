import { createPrivateKey, createPublicKey, hkdfSync, type KeyObject, sign } from 'node:crypto'

/** The market's Ed25519 key: it signs each ledger batch. */
export type LedgerKey = { readonly publicKey: string; sign(text: string): string }

/** DER of an Ed25519 private key in PKCS #8 (RFC 8410) without its 32 bytes of seed. */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')

/** `secret` is any text with at least 16 characters of entropy; the same secret gives the same key. */
export function ledgerKeyFrom(secret: string): LedgerKey {
  const seed = Buffer.from(hkdfSync('sha256', secret, '', 'orbyte ledger key 1', 32))
  const key = createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: 'der', type: 'pkcs8' })
  return { publicKey: rawPublicKey(key), sign: (text) => sign(null, Buffer.from(text), key).toString('base64url') }
}

function rawPublicKey(key: KeyObject): string {
  return createPublicKey(key).export({ format: 'jwk' }).x!
}
