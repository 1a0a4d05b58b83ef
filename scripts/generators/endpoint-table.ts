import { listEndpoints } from '@orbyte/protocol'
import type { GeneratedFile } from '../generate.ts'

/** What the client has to know of each endpoint at run time, without the schemas: they would be most of a web page. */
export function endpointTableFile(): GeneratedFile {
  const groups: Record<string, Record<string, object>> = {}
  for (const { group, name, endpoint } of listEndpoints()) {
    const { method, path, reply, idempotent } = endpoint
    groups[group] ??= {}
    groups[group][name] = { method, path, reply, idempotent }
  }
  const content = `import type { Operation } from './request.ts'

// Written by \`npm run generate\` from protocol/src/api.ts: what of an endpoint a client needs to call it.
export const endpointTable = ${JSON.stringify(groups)} as const satisfies Record<string, Record<string, Operation>>
`
  return { path: 'sdk/src/endpoint-table.ts', content }
}
