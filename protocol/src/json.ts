/** Deeper than what anybody writes, and far from where schemas and `JSON.stringify`, which call themselves, run out of stack. */
const jsonDepthMax = 100

/**
 * Whether a parsed JSON document is nested deeper than is admitted. `JSON.parse` itself takes any depth, so this comes between it
 * and whatever else looks at what a stranger has sent.
 */
export function isTooDeep(document: unknown): boolean {
  let level = containersIn([document])
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === jsonDepthMax) return true
    level = level.flatMap((container) => containersIn(Array.isArray(container) ? container : Object.values(container)))
  }
  return false
}

const containersIn = (values: readonly unknown[]) =>
  values.filter((value): value is object => typeof value === 'object' && value !== null)

/** Whether all of it can be said in JSON, as it is, and means the same to whoever reads it. */
export function isJson(value: unknown): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return true
    case 'number':
      return Number.isFinite(value)
    case 'object':
      if (value === null) return true
      if (Array.isArray(value)) return allOf(value)
      // A field of this name is another thing to whoever copies it carelessly: a prototype.
      return isPlain(value) && !Object.hasOwn(value, '__proto__') && allOf(Object.values(value))
    default:
      return false
  }
}

/** Also what an array leaves out, which `every` would pass over. */
function allOf(values: readonly unknown[]): boolean {
  for (const value of values) if (!isJson(value)) return false
  return true
}

/** No instance of a class; from whatever realm it comes. */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value) as object | null
  return prototype === null || Object.getPrototypeOf(prototype) === null
}
