import { readFileSync } from 'node:fs'
import { Telemetry } from '@orbyte/protocol'
import { expect, test } from 'vitest'
import { createAmdDetector, parseRocmSmi } from './amd.ts'
import { createAppleDetector, parseSystemProfiler } from './apple.ts'
import { createCpuDetector } from './cpu.ts'
import { createEmulatedDetector, parseEmulatedGpu } from './emulated.ts'
import type { CommandResult, RunCommand } from './gpu-detector.ts'
import { createNvidiaDetector } from './nvidia.ts'

const recorded = (name: string) => readFileSync(new URL(`recorded/${name}`, import.meta.url), 'utf8')
const notInstalled: RunCommand = async () => null
const ramBytes = 128 * 2 ** 30

test('NVIDIA: names, sizes and telemetry are read, and what the driver does not know is null', async () => {
  const detector = createNvidiaDetector({ run: nvidiaSmi({ query: 'nvidia-two-gpus.csv' }), ramBytes })
  expect(await detector.detect()).toEqual([
    {
      uuid: 'GPU-22b2c6ac-2d49-4863-197c-9c469071178a',
      index: 0,
      kind: 'gpu',
      model: 'NVIDIA GeForce RTX 4090',
      vramMib: 24_564,
      driver: '550.54.14',
      computeCapability: '8.9',
    },
    {
      uuid: 'GPU-e189fb8d-1627-f8f0-2ba3-c0585a8e9e85',
      index: 1,
      kind: 'gpu',
      model: 'NVIDIA GeForce GTX 1660 Ti',
      vramMib: 6_144,
      driver: '550.54.14',
      computeCapability: '7.5',
    },
  ])
  const telemetry = await detector.telemetry()
  expect(telemetry.get('GPU-22b2c6ac-2d49-4863-197c-9c469071178a')).toEqual({
    utilization_percent: 86,
    vram_used_gb: 1_027 / 1_024,
    temperature_celsius: 45,
    power_watts: 176.98,
  })
  expect(telemetry.get('GPU-e189fb8d-1627-f8f0-2ba3-c0585a8e9e85')).toEqual({
    utilization_percent: null,
    vram_used_gb: 0,
    temperature_celsius: 38,
    power_watts: null,
  })
})

test('NVIDIA: an H200 that does nothing, as its driver was recorded', async () => {
  const detector = createNvidiaDetector({ run: nvidiaSmi({ query: 'nvidia-h200.csv' }), ramBytes })
  const uuid = 'GPU-6b1d2f7e-0c35-4a98-8d41-1f7a92c3e5d0'
  expect(await detector.detect()).toEqual([
    {
      uuid,
      index: 0,
      kind: 'gpu',
      model: 'NVIDIA H200',
      vramMib: 143_771,
      reservedMib: 616,
      driver: '580.159.04',
      computeCapability: '9.0',
    },
  ])
  const idle = { utilization_percent: 0, vram_used_gb: 0, temperature_celsius: 33, power_watts: 79.14 }
  expect(await detector.telemetry()).toEqual(new Map([[uuid, idle]]))
})

test('NVIDIA: what the driver keeps of an H100 for itself is known, as it was recorded', async () => {
  const [device] = await createNvidiaDetector({ run: nvidiaSmi({ query: 'nvidia-h100.csv' }), ramBytes }).detect()
  expect(device).toMatchObject({ model: 'NVIDIA H100 80GB HBM3', vramMib: 81_559, reservedMib: 480 })
})

test('NVIDIA: a GPU that is split by MIG is offered as its instances', async () => {
  const run = nvidiaSmi({ query: 'nvidia-mig.csv', list: 'nvidia-mig-list.txt' })
  const devices = await createNvidiaDetector({ run, ramBytes }).detect()
  expect(devices.map(({ uuid, model, vramMib, index }) => [uuid, model, vramMib, index])).toEqual([
    ['MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f', 'NVIDIA A100-SXM4-40GB MIG 3g.20gb', 20_480, 0],
    ['MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb', 'NVIDIA A100-SXM4-40GB MIG 1g.5gb', 5_120, 0],
    ['GPU-0f2a9c1e-77b1-4c55-9d10-6f1e3a52b9c4', 'NVIDIA A100-SXM4-40GB', 40_960, 1],
  ])
})

test('NVIDIA: an old driver is asked again for the fields that it knows', async () => {
  const asked: string[] = []
  const run: RunCommand = async (_command, [query = '']) => {
    asked.push(query)
    if (query.includes('compute_cap')) return failed('Field "compute_cap" is not a valid field to query.')
    return printed(recorded('nvidia-old-driver.csv'))
  }
  const [device] = await createNvidiaDetector({ run, ramBytes }).detect()
  expect(device).toMatchObject({ model: 'NVIDIA Quadro K600', vramMib: 1_023, computeCapability: null })
  expect(asked).toHaveLength(3)
})

test('NVIDIA: a driver that does not say what it keeps for itself is asked for all else', async () => {
  const run: RunCommand = async (_command, [query = '']) => {
    if (query.includes('memory.reserved')) return failed('Field "memory.reserved" is not a valid field to query.')
    return printed(recorded('nvidia-h200.csv').replace(', 616', ''))
  }
  const [device] = await createNvidiaDetector({ run, ramBytes }).detect()
  expect(device).toMatchObject({ vramMib: 143_771, computeCapability: '9.0' })
  expect(device).not.toHaveProperty('reservedMib')
})

test('NVIDIA: a GPU without memory of its own has that of the machine', async () => {
  const run = nvidiaSmi({ query: 'nvidia-unified.csv' })
  const detector = createNvidiaDetector({ run, ramBytes })
  expect(await detector.detect()).toMatchObject([{ model: 'NVIDIA GB10', vramMib: 131_072 }])
  expect([...(await detector.telemetry()).values()]).toMatchObject([{ vram_used_gb: null, utilization_percent: 3 }])
})

test('NVIDIA: a broken GPU does not hide the one beside it', async () => {
  const detector = createNvidiaDetector({ run: nvidiaSmi({ query: 'nvidia-broken.csv' }), ramBytes })
  expect(await detector.detect()).toHaveLength(1)
  expect([...(await detector.telemetry()).values()]).toMatchObject([{ temperature_celsius: null, power_watts: null }])
})

test('NVIDIA: a driver that does not answer is a problem, no driver and no GPU are not', async () => {
  const detect = async (run: RunCommand) => await createNvidiaDetector({ run, ramBytes }).detect()
  await expect(detect(async () => failed("couldn't communicate with the NVIDIA driver"))).rejects.toThrow('communicate')
  expect(await detect(notInstalled)).toEqual([])
  expect(await detect(async () => ({ exitCode: 6, stdout: 'No devices were found\n', stderr: '' }))).toEqual([])
})

test('AMD: cards are read, and the graphics of a processor are none', () => {
  const cards = parseRocmSmi(recorded('rocm-smi-6.txt'))
  expect(cards.map(({ device }) => device)).toEqual([
    {
      uuid: 'AMD-3d4595974090853c',
      index: 0,
      kind: 'gpu',
      model: 'AMD Radeon RX 7900 XT',
      vramMib: 20_464,
      driver: '6.10.5',
      computeCapability: 'gfx1100',
    },
    {
      uuid: 'AMD-0000:43:00.0',
      index: 2,
      kind: 'gpu',
      model: 'AMD APM107573',
      vramMib: 32_624,
      driver: '6.10.5',
      computeCapability: 'gfx1201',
    },
  ])
  expect(cards.map(({ telemetry }) => telemetry)).toEqual([
    { utilization_percent: 1, vram_used_gb: 27_856_896 / 2 ** 30, temperature_celsius: 46, power_watts: 17 },
    { utilization_percent: null, vram_used_gb: 29_225_381_888 / 2 ** 30, temperature_celsius: 36, power_watts: null },
  ])
})

test('AMD: the keys of older versions are found too', () => {
  expect(parseRocmSmi(recorded('rocm-smi-5.txt'))).toMatchObject([
    {
      device: { model: 'AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2', vramMib: 65_520, driver: '5.13.35.5.1' },
      telemetry: { utilization_percent: 100, temperature_celsius: 49, power_watts: 128 },
    },
  ])
})

test.each(['', 'Traceback (most recent call last)', '{"card0": "flat"}', '{"card0": {"x": 1}}', '[1, 2]'])(
  'AMD: %j is no card',
  (text) => {
    expect(parseRocmSmi(text)).toEqual([])
  },
)

test('AMD: a tool that fails or prints half an answer is a problem, none is not', async () => {
  await expect(createAmdDetector({ run: async () => failed('no driver') }).detect()).rejects.toThrow('no driver')
  await expect(createAmdDetector({ run: async () => printed('{"card0": {}') }).detect()).rejects.toThrow('JSON')
  expect(await createAmdDetector({ run: notInstalled }).detect()).toEqual([])
})

test('Apple: the chip has the share of the memory that Metal allows', () => {
  expect(parseSystemProfiler(recorded('system-profiler-m3-pro.txt'))).toEqual([
    {
      uuid: 'Apple-5A1C9E0B-7B4D-5F0E-9C41-0C4F6F0B2D11-0',
      index: 0,
      kind: 'gpu',
      model: 'Apple M3 Pro',
      vramMib: 12_288,
      driver: null,
      computeCapability: 'metal3',
    },
  ])
})

test('Apple: an Intel Mac has no GPU for the engines, and another system no such tool', async () => {
  expect(parseSystemProfiler(recorded('system-profiler-intel.txt'))).toEqual([])
  expect(await createAppleDetector({ run: notInstalled }).detect()).toEqual([])
})

test('a CPU says that it is one, and keeps its uuid', async () => {
  const machine = {
    hostname: 'bench',
    os: 'Linux 6.8 x64',
    cpuModel: 'AMD Ryzen 9 7950X',
    cpuCores: 32,
    ramBytes: 64 * 2 ** 30,
    diskFreeBytes: async () => null,
  }
  const [device] = await createCpuDetector({ machine, fingerprint: '00112233aabbccdd' }).detect()
  expect(device).toMatchObject({
    uuid: 'CPU-00112233aabbccdd',
    kind: 'cpu',
    model: 'CPU AMD Ryzen 9 7950X (32 cores)',
    vramMib: 65_536,
  })
})

test('emulated GPUs are as many as asked for, each with a uuid of its own', async () => {
  const gpus = [parseEmulatedGpu('RTX 4090:24x2'), parseEmulatedGpu('A100 80GB:80')]
  const detector = createEmulatedDetector({ gpus, fingerprint: 'ff' })
  const devices = await detector.detect()
  expect(devices.map(({ uuid, model, vramMib, kind }) => [uuid, model, vramMib, kind])).toEqual([
    ['EMULATED-ff-0', 'RTX 4090', 24_576, 'emulated'],
    ['EMULATED-ff-1', 'RTX 4090', 24_576, 'emulated'],
    ['EMULATED-ff-2', 'A100 80GB', 81_920, 'emulated'],
  ])
  for (const telemetry of (await detector.telemetry()).values()) Telemetry.parse(telemetry)
})

test.each(['RTX 4090', ':24', 'RTX 4090:0', 'RTX 4090:24x0', 'RTX 4090:24x257', 'RTX 4090:-4', ''])(
  '%j describes no emulated GPU',
  (text) => {
    expect(() => parseEmulatedGpu(text)).toThrow('describes no GPU')
  },
)

function nvidiaSmi(files: { query: string; list?: string }): RunCommand {
  return async (command, [first = '']) => {
    expect(command).toBe('nvidia-smi')
    return printed(recorded(first === '-L' ? files.list! : files.query))
  }
}

function printed(stdout: string): CommandResult {
  return { exitCode: 0, stdout, stderr: '' }
}

function failed(stderr: string): CommandResult {
  return { exitCode: 9, stdout: '', stderr }
}
