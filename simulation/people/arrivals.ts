/** How many more tasks come at the busiest hour of a day than on average, as in traces of people's use: most in the afternoon. */
const swing = 0.8
const busiestHour = 15
export const busiestShare = 1 + swing

/** How many tasks come at an hour of the day, as a share of the average. */
export function shareAtHour(hour: number): number {
  return 1 + swing * Math.cos(((hour - busiestHour) / 24) * 2 * Math.PI)
}
