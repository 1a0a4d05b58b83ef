import { createPublicKey, randomBytes, verify } from 'node:crypto'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { loadIdentity } from './identity.ts'
import { systemStorage } from './system-storage.ts'

const folder = await mkdtemp(join(tmpdir(), 'orbyte-identity-'))
afterAll(() => rm(folder, { recursive: true }))
const random = { bytes: (count: number) => randomBytes(count) }

test('a machine keeps its key, and nobody else can read it', async () => {
  const storage = systemStorage(join(folder, 'new'))
  const first = await loadIdentity({ storage, random })
  const again = await loadIdentity({ storage, random })
  expect(again.publicKey).toBe(first.publicKey)
  expect(first.fingerprint).toMatch(/^[0-9a-f]{16}$/)
  expect((await stat(join(folder, 'new', 'identity.pem'))).mode & 0o777).toBe(0o600)
  expect((await stat(join(folder, 'new'))).mode & 0o777).toBe(0o700)
  expect(await readdir(join(folder, 'new'))).toEqual(['identity.pem'])
})

test('a signature is of this nonce and by this key', async () => {
  const identity = await loadIdentity({ storage: systemStorage(join(folder, 'new')), random })
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: identity.publicKey }, format: 'jwk' })
  const signature = Buffer.from(identity.signNonce('abc'), 'base64url')
  expect(verify(null, Buffer.from('orbyte-agent:abc'), key, signature)).toBe(true)
  expect(verify(null, Buffer.from('orbyte-agent:abd'), key, signature)).toBe(false)
})

test('a broken key file is said, and not replaced', async () => {
  const storage = systemStorage(folder)
  await writeFile(join(folder, 'identity.pem'), 'no key')
  await expect(loadIdentity({ storage, random })).rejects.toThrow('identity.pem cannot be read')
  expect(await storage.read('identity.pem')).toBe('no key')
})
