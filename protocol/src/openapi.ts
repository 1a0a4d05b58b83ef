import { z } from 'zod'
import { listEndpoints } from './api.ts'
import { fieldPlace } from './endpoint-paths.ts'
import type { Endpoint } from './endpoint.ts'
import { type ErrorCode, errorRegistry, Problem } from './errors.ts'
import { taskInputs, taskOutputs } from './task-types.ts'

type Schema = Record<string, unknown> & { properties?: Record<string, Schema>; required?: string[] }

/** The OpenAPI 3.1 document of the whole API. Pure: the same contract gives the same document. */
export function openApiDocument(version: string): Record<string, unknown> {
  const components: Record<string, Schema> = {}
  const paths: Record<string, Record<string, unknown>> = {}
  for (const { group, name, endpoint } of listEndpoints()) {
    const path = (paths[endpoint.path] ??= {})
    path[endpoint.method.toLowerCase()] = operation(`${group}.${name}`, endpoint, components)
  }
  for (const schema of [Problem, ...Object.values(taskInputs), ...Object.values(taskOutputs)])
    toSchema(schema, components)
  return {
    openapi: '3.1.0',
    info: {
      title: 'Orbyte',
      version,
      license: { name: 'MIT', identifier: 'MIT' },
      description:
        'An open market for GPU time. Amounts are decimal strings in ORB, times are ISO 8601 in UTC, errors are RFC 9457 problem documents with a `code`.',
    },
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(components).sort(([a], [b]) => (a < b ? -1 : 1))),
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'An access token or an API key.' },
        password: { type: 'oauth2', flows: { password: { tokenUrl: '/api/auth/token', scopes: {} } } },
      },
    },
  }
}

function operation(operationId: string, endpoint: Endpoint, components: Record<string, Schema>) {
  const schema = inline(toSchema(endpoint.input, components), components)
  const fields = Object.entries(schema.properties ?? {})
  const required = (field: string) => schema.required?.includes(field) ?? false
  const parameters: unknown[] = fields
    .filter(([field]) => fieldPlace(endpoint, field) !== 'body')
    .map(([field, { description, ...rest }]) => ({
      name: field,
      in: fieldPlace(endpoint, field),
      required: required(field),
      ...(description !== undefined && { description }),
      schema: rest,
    }))
  if (endpoint.idempotent)
    parameters.push({
      name: 'Idempotency-Key',
      in: 'header',
      required: false,
      description: 'Makes a repetition of this call harmless for 24 hours.',
      schema: { type: 'string', maxLength: 200 },
    })
  const body = fields.filter(([field]) => fieldPlace(endpoint, field) === 'body')
  return {
    operationId,
    tags: [operationId.split('.')[0]],
    summary: endpoint.summary,
    ...(endpoint.description && { description: endpoint.description }),
    ...(endpoint.access !== 'public' && { security: [{ bearer: [] }, { password: [] }] }),
    'x-access': endpoint.access,
    parameters,
    ...(body.length > 0 && {
      requestBody: requestBody(endpoint, Object.fromEntries(body), body.map(([f]) => f).filter(required)),
    }),
    responses: { [endpoint.status]: reply(endpoint, components), ...problems(endpoint) },
  }
}

function requestBody(endpoint: Endpoint, properties: Record<string, Schema>, required: string[]) {
  const content = { schema: { type: 'object', properties, required, additionalProperties: false } }
  return {
    required: required.length > 0,
    content: {
      'application/json': content,
      ...(endpoint.form && { 'application/x-www-form-urlencoded': content }),
    },
  }
}

function reply(endpoint: Endpoint, components: Record<string, Schema>) {
  const types = {
    json: 'application/json',
    'event-stream': 'text/event-stream',
    text: 'text/plain',
    bytes: 'application/octet-stream',
    'byte-stream': 'application/x-tar',
  }
  const schema =
    endpoint.reply === 'bytes' || endpoint.reply === 'byte-stream'
      ? { type: 'string', format: 'binary' }
      : toSchema(endpoint.output, components)
  return { description: 'OK', content: { [types[endpoint.reply]]: { schema } } }
}

function problems(endpoint: Endpoint): Record<string, unknown> {
  const general: ErrorCode[] = [
    'invalid_request',
    'rate_limited',
    ...(endpoint.access === 'public' ? [] : (['unauthenticated'] as const)),
  ]
  const byStatus = groupByStatus([...general, ...endpoint.errors])
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      String(status),
      {
        description: codes.map((code) => `\`${code}\`: ${errorRegistry[code][1]}`).join(' '),
        content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    ]),
  )
}

function groupByStatus(codes: ErrorCode[]): Map<number, ErrorCode[]> {
  const groups = new Map<number, ErrorCode[]>()
  for (const code of codes) groups.set(errorRegistry[code][0], [...(groups.get(errorRegistry[code][0]) ?? []), code])
  return groups
}

/** JSON Schema of a zod schema in wire form; schemas with an id go to `components` and are referred to. */
function toSchema(schema: z.ZodType, components: Record<string, Schema>): Schema {
  const { $schema: _, $defs, ...json } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Schema
  for (const [name, definition] of Object.entries(($defs ?? {}) as Record<string, Schema>)) {
    const { id: _id, ...rest } = definition
    components[name] = refer(rest) as Schema
  }
  const { id, ...rest } = refer(json) as Schema & { id?: string }
  if (id === undefined) return rest
  components[id] = rest
  return { $ref: `#/components/schemas/${id}` }
}

function inline(schema: Schema, components: Record<string, Schema>): Schema {
  return typeof schema.$ref === 'string' ? components[schema.$ref.replace('#/components/schemas/', '')]! : schema
}

function refer(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(refer)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) =>
      key === '$ref' && typeof inner === 'string'
        ? [key, inner.replace('#/$defs/', '#/components/schemas/')]
        : [key, refer(inner)],
    ),
  )
}
