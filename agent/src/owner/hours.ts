/** Hours of the day, local time, in minutes since midnight. Where `from` is later than `to`, the night lies between. */
export type Hours = { readonly fromMinute: number; readonly toMinute: number }

/** "22:00-07:00", or several with commas between them. */
export function parseHours(text: string): Hours[] {
  return text.split(',').map((part) => {
    const [, from, to] = /^(\d{1,2}:\d{2})-(\d{1,2}:\d{2})$/.exec(part.trim()) ?? []
    const hours = { fromMinute: minuteOf(from), toMinute: minuteOf(to) }
    if (Number.isNaN(hours.fromMinute + hours.toMinute) || hours.fromMinute === hours.toMinute) {
      throw new Error(`"${part}" names no hours of the day: write them like 22:00-07:00`)
    }
    return hours
  })
}

/** Whether a moment lies in one of them. No hours: always. */
export function isWithinHours(hours: readonly Hours[] | null, timeMs: number): boolean {
  if (hours === null) return true
  const time = new Date(timeMs)
  const minute = time.getHours() * 60 + time.getMinutes()
  return hours.some(({ fromMinute, toMinute }) =>
    fromMinute < toMinute ? fromMinute <= minute && minute < toMinute : fromMinute <= minute || minute < toMinute,
  )
}

function minuteOf(text: string | undefined): number {
  const [hour = Number.NaN, minute = Number.NaN] = (text ?? '').split(':').map(Number)
  const isTime = minute < 60 && (hour < 24 || (hour === 24 && minute === 0))
  return isTime ? hour * 60 + minute : Number.NaN
}
