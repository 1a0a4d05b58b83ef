/** Where to go after a login: a path of this app and nothing else. */
export function nextPage(url: URL): string {
  const next = url.searchParams.get('next') ?? '/tasks'
  return /^\/(?![/\\])/.test(next) ? next : '/tasks'
}
