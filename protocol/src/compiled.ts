import { z } from 'zod'

const known = new WeakMap<z.ZodType, z.ZodType>()

/**
 * The same schema, checked by code that zod makes for it: a third of the time, for what is checked thousands of times a second.
 * It is made when it is first asked for, which takes some milliseconds. Not for a browser, whose pages forbid to make code.
 */
export function compiled<S extends z.ZodType>(schema: S): S {
  return (known.get(schema) ?? make(schema)) as S
}

function make(schema: z.ZodType): z.ZodType {
  const made = z.compile(schema)
  known.set(schema, made)
  return made
}
