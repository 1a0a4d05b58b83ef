import { z } from 'zod'

const known = new WeakMap<z.ZodType, z.ZodType>()

/**
 * The same schema, checked by code that zod makes for it: a third of the time, for what is checked thousands of times a second.
 * It is made when it is first asked for, which takes some milliseconds. Not for a browser, whose pages forbid to make code.
 */
export function compiled<S extends z.ZodType>(schema: S): S {
  const made = known.get(schema) ?? z.compile(schema)
  known.set(schema, made)
  return made as S
}
