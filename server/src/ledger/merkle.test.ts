import fc from 'fast-check'
import { expect, test } from 'vitest'
import { hashLeaf, inclusionPath, merkleRoot } from './merkle.ts'

test('an empty leaf and a single leaf hash as RFC 6962 says', () => {
  // The RFC's example trees, as published with the certificate-transparency test vectors.
  expect(hashLeaf('')).toBe('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d')
  expect(merkleRoot([hashLeaf('')])).toBe(hashLeaf(''))
})

test('the root of the certificate-transparency test leaves is the published one', () => {
  const leaves = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
  const roots = leaves.map((leaf) => hashLeaf(Buffer.from(leaf, 'hex').toString('latin1')))
  expect(merkleRoot(roots)).toBe('5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328')
})

test('a path has at most log2(n) hashes, rounded up', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), fc.nat(), (count, at) => {
      const leaves = Array.from({ length: count }, (_, i) => hashLeaf(String(i)))
      expect(inclusionPath(leaves, at % count).length).toBeLessThanOrEqual(Math.ceil(Math.log2(count)))
    }),
  )
})
