import type { Endpoint } from './endpoint.ts'

/** "/api/tasks/{task_id}/cancel" → ["task_id"]. */
export function pathParams(path: string): string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!)
}

/** Where each input field travels. */
export function fieldPlace(endpoint: Pick<Endpoint, 'method' | 'path'>, field: string): 'path' | 'query' | 'body' {
  if (pathParams(endpoint.path).includes(field)) return 'path'
  return endpoint.method === 'GET' || endpoint.method === 'DELETE' ? 'query' : 'body'
}
