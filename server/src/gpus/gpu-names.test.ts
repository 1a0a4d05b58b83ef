import fc from 'fast-check'
import { expect, test } from 'vitest'
import { normaliseGpuName } from './gpu-names.ts'

// Each line: ways of writing one product. No two lines are the same product.
const products: readonly (readonly string[])[] = [
  ['NVIDIA GeForce RTX 4090', 'RTX 4090', 'rtx4090', 'GeForce RTX4090', 'RTX 4090 24GB', 'nvidia rtx-4090 (24 GiB)'],
  ['NVIDIA GeForce RTX 4090 Laptop GPU', 'RTX 4090 laptop'],
  ['NVIDIA GeForce RTX 4080', 'rtx 4080'],
  ['NVIDIA GeForce RTX 4080 SUPER', 'RTX 4080 Super'],
  ['NVIDIA GeForce RTX 3060 Ti', 'rtx3060ti'],
  ['NVIDIA GeForce RTX 3060', 'RTX 3060 12GB'],
  ['NVIDIA A100-SXM4-80GB', 'NVIDIA A100-SXM4-40GB', 'A100 SXM4'],
  ['NVIDIA A100 80GB PCIe', 'NVIDIA A100-PCIE-40GB', 'a100 pcie'],
  ['NVIDIA H100 80GB HBM3', 'H100'],
  ['NVIDIA H100 PCIe', 'h100-pcie'],
  ['NVIDIA H200', 'H200 141 GB'],
  ['Tesla T4', 'NVIDIA T4', 't4'],
  ['NVIDIA RTX 6000 Ada Generation', 'RTX 6000 Ada'],
  ['Quadro RTX 6000', 'NVIDIA Quadro RTX 6000'],
  ['AMD Radeon RX 7900 XTX', 'Radeon RX 7900 XTX', 'rx7900xtx'],
  ['AMD Instinct MI300X', 'MI300X'],
  ['Apple M3 Max', 'M3 Max'],
  ['Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz', 'Xeon E5-2680 v4'],
  ['Intel(R) Xeon(R) Platinum 8462Y+', 'Xeon Platinum 8462Y+'],
  ['AMD EPYC 7763 64-Core Processor', 'EPYC 7763'],
]

test('ways of writing one product have one name, and no two products share it', () => {
  const names = products.map((spellings) => {
    const normalised = new Set(spellings.map(normaliseGpuName))
    expect([...normalised], spellings.join(', ')).toHaveLength(1)
    return [...normalised][0]
  })
  expect(new Set(names).size).toBe(products.length)
})

const anySpelling = fc.constantFrom(...products.flat())
const anyStyle = fc.record({
  maker: fc.constantFrom('', 'NVIDIA ', 'amd ', 'GeForce '),
  space: fc.array(fc.constantFrom(' ', '\t'), { minLength: 1, maxLength: 3 }).map((spaces) => spaces.join('')),
  upper: fc.boolean(),
})

test('case, spaces and the maker’s name in front do not matter', () => {
  fc.assert(
    fc.property(anySpelling, anyStyle, (spelling, { maker, space, upper }) => {
      const spaced = `${space}${maker}${spelling.split(' ').join(space)}${space}`
      const rewritten = upper ? spaced.toUpperCase() : spaced.toLowerCase()
      expect(normaliseGpuName(rewritten)).toBe(normaliseGpuName(spelling))
    }),
  )
})

test('a name that says anything is never empty, so that two unknown names are not taken for one', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (name) => {
      fc.pre(name.trim() !== '')
      expect(normaliseGpuName(name)).not.toBe('')
    }),
  )
})
