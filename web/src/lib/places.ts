/** Pages that belong together; each shows the others. */
export const workPlaces = [
  ['/tasks', 'All tasks'],
  ['/images', 'Images'],
] as const

export const moneyPlaces = [
  ['/wallet', 'Balance and transfers'],
  ['/payments', 'Payments'],
  ['/earnings', 'Earnings'],
] as const

export const accountPlaces = [
  ['/account', 'Profile and password'],
  ['/account/sessions', 'Sessions'],
  ['/account/credentials', 'Keys and machines'],
] as const

/** Of the places of a navigation, the one that a page is in: what leads to it, the longest path first. */
export function placeOf(pathname: string, places: readonly string[]): string | undefined {
  const group = [workPlaces, moneyPlaces].find((pages) => pages.some(([path]) => path === pathname))
  const home = group?.[0][0] ?? pathname
  return places
    .filter((path) => home === path || home.startsWith(`${path}/`))
    .sort((a, b) => b.length - a.length)
    .at(0)
}
