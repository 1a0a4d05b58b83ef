import { z } from 'zod'
import type { ErrorCode } from './errors.ts'
import { isJson } from './json.ts'

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** Who may call an endpoint. What a caller may see of it (their own tasks, their own GPUs) is the service's rule. */
export type Access = 'public' | 'user' | 'admin'

/** How a reply is written when it is not one JSON document. */
export type Reply = 'json' | 'event-stream' | 'text' | 'bytes' | 'byte-stream'

/** One HTTP operation. The server mounts it, the SDK calls it, the OpenAPI document lists it. */
export type Endpoint<I extends z.ZodObject = z.ZodObject, O extends z.ZodType = z.ZodType, R extends Reply = Reply> = {
  readonly method: Method
  readonly path: `/api/${string}`
  readonly summary: string
  readonly description: string
  readonly access: Access
  readonly status: number
  /** Path parameters, then query (GET, DELETE) or JSON body (others), in one object. Unknown fields are refused. */
  readonly input: I
  /** The JSON reply; for `text`, `bytes` and `byte-stream` unused; for `event-stream` the data of one event. */
  readonly output: O
  readonly reply: R
  /** Accepts an `Idempotency-Key` header: the same key and body within 24 h returns the first reply again. */
  readonly idempotent: boolean
  /** Accepts `application/x-www-form-urlencoded` beside JSON. */
  readonly form: boolean
  /** Calls a minute that one address (public) or one user may make; null: the general limit only. */
  readonly callsPerMinuteMax: number | null
  readonly bodyBytesMax: number
  /** What can go wrong beside what any endpoint may answer (validation, authentication, limits). */
  readonly errors: readonly ErrorCode[]
}

/** What a client sends: wire form (amounts are decimal strings). */
export type InputOf<E extends Endpoint> = z.input<E['input']>
/** What a handler gets: defaults filled in, amounts in micro-ORB. */
export type ParsedInputOf<E extends Endpoint> = z.output<E['input']>
/** What a client gets: wire form. */
export type OutputOf<E extends Endpoint> = z.input<E['output']>
/** What a handler returns: amounts in micro-ORB. */
export type HandlerOutputOf<E extends Endpoint> = z.output<E['output']>

type Details<I extends z.ZodObject, O extends z.ZodType, R extends Reply> = {
  summary: string
  access: Access
  output: O
  input?: I
  reply?: R
} & Partial<
  Pick<Endpoint, 'description' | 'status' | 'idempotent' | 'form' | 'callsPerMinuteMax' | 'bodyBytesMax' | 'errors'>
>

const nothing = z.strictObject({})
const bodyBytesMaxDefault = 1_000_000

export function endpoint<O extends z.ZodType, I extends z.ZodObject = typeof nothing, R extends Reply = 'json'>(
  route: `${Method} /api/${string}`,
  details: Details<I, O, R>,
): Endpoint<I, O, R> {
  const [method, path] = route.split(' ') as [Method, `/api/${string}`]
  return {
    method,
    path,
    description: '',
    status: 200,
    reply: 'json' as R,
    idempotent: false,
    form: false,
    callsPerMinuteMax: null,
    bodyBytesMax: bodyBytesMaxDefault,
    errors: [],
    ...details,
    input: details.input ?? (nothing as unknown as I),
  }
}

/** A whole number in a query string. */
export const queryInt = (min: number, max: number) => z.coerce.number<string | number>().int().min(min).max(max)
/** A truth value in a query string. */
export const queryBoolean = z.union([z.boolean(), z.stringbool()])

/** A page of a list. Ask for the next one with `cursor`. */
export const pageInput = {
  limit: queryInt(1, 200).default(50).describe('How many items, 1 to 200.'),
  cursor: z.string().max(500).optional().describe('`next_cursor` of the page before.'),
}

export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({
    items: z.array(item),
    next_cursor: z
      .string()
      .nullable()
      .describe('Give it as `cursor` to get the next page; null: this is the last one.'),
  })
}

export const Timestamp = z.iso.datetime().describe('ISO 8601, UTC, milliseconds.')
/** Any JSON. Not `z.json()`, which copies what it checks, and which zod cannot compile because it contains itself. */
export const JsonValue: z.ZodType<z.core.util.JSONType, z.core.util.JSONType> = z
  .custom<z.core.util.JSONType>(isJson, 'must be JSON, with finite numbers and no field __proto__')
  .meta({ id: 'JsonValue', description: 'Any JSON.' })
/** A JSON object of any shape. */
export const JsonObject = z.record(z.string(), JsonValue)
export const Done = z.object({ ok: z.literal(true) }).meta({ id: 'Done' })
