import type { Telemetry } from '@orbyte/protocol'
import { type DetectedDevice, type GpuDetector, noTelemetry, type RunCommand } from './gpu-detector.ts'

const question = [
  '--showproductname',
  '--showuniqueid',
  '--showbus',
  '--showuse',
  '--showmeminfo',
  'vram',
  '--showtemp',
  '--showpower',
  '--showdriverversion',
  '--json',
]
/** What is carved out of the main memory for a processor's own graphics is no memory to rent out. */
const vramMibMin = 2_048

/** AMD's GPUs by rocm-smi. */
export function createAmdDetector({ run }: { readonly run: RunCommand }): GpuDetector {
  const ask = async () => {
    const result = await run('rocm-smi', question)
    if (result === null) return []
    if (result.exitCode !== 0 && !result.stdout.includes('{')) {
      throw new Error(`rocm-smi failed: ${(result.stderr || result.stdout).trim().split('\n')[0]}`)
    }
    return parseRocmSmi(result.stdout)
  }
  return {
    name: 'AMD',
    detect: async () => (await ask()).map(({ device }) => device),
    telemetry: async () => new Map((await ask()).map(({ device, telemetry }) => [device.uuid, telemetry])),
  }
}

export type AmdCard = { readonly device: DetectedDevice; readonly telemetry: Telemetry }

/** All values are texts, and their keys differ from version to version. Warnings may stand before and after the object. */
export function parseRocmSmi(text: string): AmdCard[] {
  const report = parseObject(text)
  const system = asFields(report['system'])
  return Object.entries(report).flatMap(([key, value]) => {
    const index = /^card(\d+)$/.exec(key)?.[1]
    const card = asFields(value)
    const vramBytes = numberAt(card, /^VRAM Total Memory \(B\)$/i)
    if (index === undefined || vramBytes === null || vramBytes < vramMibMin * 2 ** 20) return []
    const driver = textAt(card, /^Driver version$/i) ?? textAt(system, /^Driver version$/i)
    const device = deviceOf(card, { index: Number(index), vramMib: vramBytes / 2 ** 20, driver })
    return [{ device, telemetry: telemetryOf(card) }]
  })
}

type Fields = Readonly<Record<string, unknown>>
type Found = { readonly index: number; readonly vramMib: number; readonly driver: string | null }

function deviceOf(card: Fields, { index, vramMib, driver }: Found): DetectedDevice {
  const gfx = textAt(card, /^GFX Version$/i)
  const names = [/^Card Series$/i, /^Device Name$/i, /^Card Model$/i, /^Card SKU$/i].map((key) => textAt(card, key))
  const id = textAt(card, /^Unique ID$/i) ?? textAt(card, /^PCI Bus$/i) ?? textAt(card, /^GUID$/i) ?? String(index)
  return {
    uuid: `AMD-${id.replace(/^0x/i, '')}`,
    index,
    kind: 'gpu',
    model: modelOf([...names, gfx]),
    vramMib,
    driver,
    computeCapability: gfx,
  }
}

/** A number is no name: some cards give that of their device where others have one. */
function modelOf(names: readonly (string | null)[]): string {
  const name = names.find((candidate) => candidate !== null && !/^0x[0-9a-f]+$/i.test(candidate)) ?? 'GPU'
  return /^(amd|advanced micro)/i.test(name) ? name : `AMD ${name}`
}

function telemetryOf(card: Fields): Telemetry {
  const usedBytes = numberAt(card, /^VRAM Total Used Memory \(B\)$/i)
  const utilization = numberAt(card, /^GPU use \(%\)$/i)
  const temperature = [/^Temperature \(Sensor edge\)/i, /^Temperature \(Sensor junction\)/i, /^Temperature/i]
  return {
    ...noTelemetry,
    utilization_percent: utilization === null ? null : Math.min(100, Math.max(0, utilization)),
    vram_used_gb: usedBytes === null ? null : usedBytes / 2 ** 30,
    temperature_celsius: temperature.map((key) => numberAt(card, key)).find((value) => value !== null) ?? null,
    power_watts: numberAt(card, /^(Average|Current)( Socket)? Graphics Package Power \(W\)$/i),
  }
}

function textAt(fields: Fields, key: RegExp): string | null {
  for (const [name, value] of Object.entries(fields)) {
    const text = typeof value === 'number' ? String(value) : value
    if (key.test(name) && typeof text === 'string' && !/^(n\/a|none|unknown|)$/i.test(text.trim())) return text.trim()
  }
  return null
}

function numberAt(fields: Fields, key: RegExp): number | null {
  const value = Number.parseFloat(textAt(fields, key) ?? '')
  return Number.isFinite(value) && value >= 0 ? value : null
}

function parseObject(text: string): Fields {
  const from = text.indexOf('{')
  const to = text.lastIndexOf('}')
  if (from === -1 || to < from) return {}
  try {
    return asFields(JSON.parse(text.slice(from, to + 1)))
  } catch {
    throw new Error('rocm-smi printed something that is no JSON')
  }
}

function asFields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {}
}
