import { openApiDocument } from '@orbyte/protocol'
import type { GeneratedFile } from '../generate.ts'
import { version } from '../version.ts'

/** The API as an OpenAPI 3.1 document, the same that a running market serves. */
export function openApiFile(): GeneratedFile {
  return { path: 'docs/reference/openapi.json', content: JSON.stringify(openApiDocument(version), null, 2) }
}
