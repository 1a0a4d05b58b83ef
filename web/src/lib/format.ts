import { microsPerOrb, parseOrb } from '@orbyte/protocol'

const locale = navigator.languages[0] ?? 'en'
const numbers = new Map<string, Intl.NumberFormat>()

function number(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = JSON.stringify(options)
  const known = numbers.get(key) ?? new Intl.NumberFormat(locale, options)
  numbers.set(key, known)
  return known
}

/** An amount in ORB, with as many decimals as it takes to see it: 1,204.50, 0.0042, 0.000018. */
export function money(amount: string | number, digits?: number): string {
  const value = typeof amount === 'string' ? parseOrb(amount) / microsPerOrb : amount
  const needed = value !== 0 && Math.abs(value) < 0.01 ? 6 : Math.abs(value) < 1 ? 4 : 2
  return number({ minimumFractionDigits: digits ?? 2, maximumFractionDigits: digits ?? needed }).format(value)
}

export const orb = (amount: string): number => parseOrb(amount) / microsPerOrb
export const count = (value: number): string => number({}).format(value)
export const percent = (share: number, digits = 0): string =>
  number({ style: 'percent', maximumFractionDigits: digits }).format(share)
export const gib = (value: number): string => number({ maximumFractionDigits: value < 10 ? 1 : 0 }).format(value)

const dateTimeFormat = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' })
const dayFormat = new Intl.DateTimeFormat(locale, { month: 'short', day: 'numeric', timeZone: 'UTC' })
const clockFormat = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const relativeFormat = new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' })

export const dateTime = (iso: string): string => dateTimeFormat.format(new Date(iso))
/** A day in UTC, as the market counts days. */
export const day = (iso: string): string => dayFormat.format(new Date(`${iso}T00:00:00Z`))
const hourAndMinuteFormat = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit' })
const dayAndMonthFormat = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short' })

/** A moment as an axis writes it that spans so much time. */
export function momentOn(ms: number, spanMs: number): string {
  const format = spanMs < 10 * 60_000 ? clockFormat : spanMs < 36 * 3_600_000 ? hourAndMinuteFormat : dayAndMonthFormat
  return format.format(new Date(ms))
}
export const measure = (value: number): string => number({ maximumFractionDigits: 1 }).format(value)
export const clock = (iso: string): string => clockFormat.format(new Date(iso))

const steps = [
  ['second', 60_000, 1_000],
  ['minute', 3_600_000, 60_000],
  ['hour', 86_400_000, 3_600_000],
  ['day', 30 * 86_400_000, 86_400_000],
] as const

/** "3 min. ago"; a date once that is a month. */
export function ago(iso: string, nowMs: number): string {
  const passedMs = Math.max(0, nowMs - Date.parse(iso))
  const step = steps.find(([, below]) => passedMs < below)
  return step ? relativeFormat.format(-Math.floor(passedMs / step[2]), step[0]) : dateTime(iso)
}

/** 840 ms, 12.3 s, 4 min 05 s, 2 h 10 min. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${number({ minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(ms / 1_000)} s`
  const seconds = Math.floor(ms / 1_000)
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`
  return `${Math.floor(seconds / 3_600)} h ${String(Math.floor((seconds % 3_600) / 60)).padStart(2, '0')} min`
}

export function bytes(size: number): string {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte'] as const
  const step = Math.min(units.length - 1, size < 1 ? 0 : Math.floor(Math.log10(size) / 3))
  return number({ style: 'unit', unit: units[step]!, unitDisplay: 'short', maximumFractionDigits: 1 }).format(
    size / 1_000 ** step,
  )
}

/** "task_01k…4z9q": enough to recognise it by. */
export const shortId = (id: string): string => `${id.split('_')[0]}_…${id.slice(-5)}`
export const sentence = (name: string): string => {
  const words = name.replaceAll('_', ' ').replace(/\bgpu(s?)\b/g, 'GPU$1')
  return words.charAt(0).toUpperCase() + words.slice(1)
}
/** What the market says, with its times as people here write them. */
export const readable = (text: string): string => text.replace(/\d{4}-\d{2}-\d{2}T[\d:.]+Z/g, (iso) => dateTime(iso))
