import { percentOf } from '@orbyte/protocol'

/** How amounts, times and sizes are said to a person. */
export const orb = (amount: string | null) => (amount === null ? null : `${amount} ORB`)
export const perHour = (amount: string | null) => (amount === null ? null : `${amount} ORB/h`)

export function duration(ms: number): string {
  if (ms < 1_000) return `${ms} ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 1)} s`
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1_000)} s`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}

export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = count
  let unit = 0
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`
}

/** "2026-01-31 14:05:09", in this machine's time zone. */
export function localTime(iso: string | null): string | null {
  if (iso === null) return null
  const time = new Date(iso)
  const two = (value: number) => String(value).padStart(2, '0')
  const day = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join('-')
  return `${day} ${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':')}`
}

/** "RTX 4090, 24 GiB"; a CPU or an emulated GPU says what it is. */
export function hardware(gpu: { model: string; kind: string; vram_gb: number }): string {
  const saysKind = gpu.kind === 'gpu' || (gpu.kind === 'cpu' && /\bCPU\b/.test(gpu.model))
  const kind = saysKind ? '' : gpu.kind === 'cpu' ? ' (CPU)' : ' (emulated)'
  return `${gpu.model}${kind}, ${Math.round(gpu.vram_gb * 10) / 10} GiB`
}

/** What tasks can have of it, where that is not all. */
export function usableText({ vram_gb, usable_vram_gb }: { vram_gb: number; usable_vram_gb: number }): string {
  return usable_vram_gb === vram_gb ? '' : `, ${usable_vram_gb} of it for tasks`
}

type AttemptGpus = { gpus: { gpu_name: string; milli: number; vram_gb: number | null }[] }

/** What an attempt has: a GPU, several, or a share of one. */
export function gpusOf({ gpus }: AttemptGpus): string {
  return gpus
    .map(({ gpu_name, milli, vram_gb }) =>
      vram_gb === null ? gpu_name : `${percentOf(milli)} of ${gpu_name}, ${vram_gb} GiB`,
    )
    .join(' + ')
}

export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
