import { z } from 'zod'

/** Turns a value as the market has it into one as it crosses the wire. */
export type WireEncoder<S extends z.ZodType> = (value: z.output<S>) => z.input<S>
type Encode = (value: unknown) => unknown

/**
 * Like `z.encode(schema, value)` for values that the market itself has made: amounts become decimal strings, and fields that the
 * schema does not have are left out, but nothing is checked. That costs a tenth, and it is done for every reply and message.
 * The schema is walked once, here. Tests check what is sent.
 */
export function wireEncoder<S extends z.ZodType>(schema: S): WireEncoder<S> {
  return (encoderOf(schema, new Map()) ?? same) as WireEncoder<S>
}

const same: Encode = (value) => value

/**
 * Null: the value crosses as it is. `known`: what has been found out, by schema; one that contains itself (any JSON) counts as
 * null while it is looked into, so it must not contain amounts.
 */
function encoderOf(schema: z.core.$ZodType, known: Map<z.core.$ZodType, Encode | null>): Encode | null {
  const before = known.get(schema)
  if (before !== undefined) return before
  known.set(schema, null)
  const encode = makeEncoder((schema as z.core.$ZodTypes)._zod.def, (part) => encoderOf(part, known))
  known.set(schema, encode)
  return encode
}

function makeEncoder(
  def: z.core.$ZodTypes['_zod']['def'],
  of: (part: z.core.$ZodType) => Encode | null,
): Encode | null {
  switch (def.type) {
    case 'object':
      return encodeFields(Object.entries(def.shape).map(([name, part]) => [name, of(part)]))
    case 'nullable':
    case 'optional':
      return unlessMissing(of(def.innerType))
    case 'array':
      return encodeItems(of(def.element))
    case 'union':
      return encodeUnion(def, of)
    case 'lazy':
      return of(def.getter())
    case 'record':
      if (of(def.valueType) === null) return null
      break
    case 'pipe':
      if ('reverseTransform' in def) return encodeWith(def as z.core.$ZodCodecDef)
      break
    case 'boolean':
    case 'custom':
    case 'enum':
    case 'literal':
    case 'null':
    case 'number':
    case 'string':
    case 'unknown':
      return null
  }
  throw new Error(`a schema of what is sent may not hold a ${def.type}: teach wire-encoder.ts how it crosses the wire`)
}

function encodeFields(fields: readonly (readonly [name: string, encode: Encode | null])[]): Encode {
  return (value) => {
    const given = value as Record<string, unknown>
    const wire: Record<string, unknown> = {}
    for (const [name, encode] of fields) {
      const field = given[name]
      if (field !== undefined) wire[name] = encode === null ? field : encode(field)
    }
    return wire
  }
}

const unlessMissing = (encode: Encode | null): Encode | null =>
  encode && ((value) => (value === null || value === undefined ? value : encode(value)))

const encodeItems = (encode: Encode | null): Encode | null => encode && ((value) => (value as unknown[]).map(encode))

function encodeWith({ reverseTransform }: z.core.$ZodCodecDef): Encode {
  const context = { value: undefined, issues: [] } as z.core.ParsePayload
  return (value) => reverseTransform(value as never, context)
}

/** Which alternative it is says its discriminator; where there is none, all have to cross as they are. */
function encodeUnion(def: z.core.$ZodUnionDef, of: (part: z.core.$ZodType) => Encode | null): Encode | null {
  const encoders = def.options.map(of)
  if (encoders.every((encode) => encode === null)) return null
  const { discriminator } = def as z.core.$ZodDiscriminatedUnionDef
  if (discriminator === undefined) throw new Error('only a discriminated union may hold amounts or objects')
  const byTag = new Map<unknown, Encode | null>()
  for (const [index, option] of def.options.entries())
    for (const tag of option._zod.propValues![discriminator]!) byTag.set(tag, encoders[index]!)
  return (value) => byTag.get((value as Record<string, unknown>)[discriminator])?.(value)
}
