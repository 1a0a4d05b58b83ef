/** One field of a form, made from the contract's JSON Schema of a task type's input. */
export type FormField = {
  name: string
  label: string
  hint: string | undefined
  control: 'text' | 'long' | 'number' | 'switch' | 'lines' | 'pairs' | 'rows' | 'model'
  isRequired: boolean
  /** What is taken where nothing is given, as text. */
  standard: string
  low?: number | undefined
  high?: number | undefined
  isWhole: boolean
  /** Of `rows`: the columns. */
  columns: { name: string; choices: string[] | null }[]
  /** Stands first, and not among the settings that have a default. */
  isMain: boolean
}
type Schema = {
  $ref?: string
  $defs?: Record<string, Schema>
  type?: string
  properties?: Record<string, Schema>
  required?: string[]
  description?: string
  default?: unknown
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  maxLength?: number
  enum?: string[]
  items?: Schema
  additionalProperties?: boolean | Schema
}

/** Null: the input is free, and no form can be made of it. */
export function fieldsOf(document: Record<string, unknown>): FormField[] | null {
  const root = document as Schema
  const schema = root.$ref ? root.$defs?.[root.$ref.split('/').at(-1)!] : root
  if (!schema?.properties) return null
  const fields = Object.entries(schema.properties).map(([name, field]) =>
    fieldOf(name, field, schema.required?.includes(name) ?? false),
  )
  // Where one must be given, it is one of those without a default: what people type stands first.
  return fields.sort((a, b) => Number(b.isMain) - Number(a.isMain))
}

function fieldOf(name: string, schema: Schema, isRequired: boolean): FormField {
  const control = controlOf(name, schema)
  return {
    name,
    label: labelOf(name),
    hint: schema.description,
    control,
    isRequired,
    standard: schema.default === undefined || typeof schema.default === 'object' ? '' : String(schema.default),
    low: schema.minimum ?? schema.exclusiveMinimum,
    high: schema.maximum,
    isWhole: schema.type === 'integer',
    columns: Object.entries(schema.items?.properties ?? {}).map(([column, one]) => ({
      name: column,
      choices: one.enum ?? null,
    })),
    isMain: isRequired || (control === 'long' && schema.default === undefined),
  }
}

function controlOf(name: string, schema: Schema): FormField['control'] {
  if (name === 'model' || name === 'base_model') return 'model'
  if (schema.type === 'boolean') return 'switch'
  if (schema.type === 'number' || schema.type === 'integer') return 'number'
  if (schema.type === 'array') return schema.items?.type === 'object' ? 'rows' : 'lines'
  if (schema.type === 'object') return 'pairs'
  return (schema.maxLength ?? 0) > 1_000 && !name.endsWith('_url') ? 'long' : 'text'
}

function labelOf(name: string): string {
  const words = name
    .replaceAll('_', ' ')
    .replace(/\bgb\b/, '(GiB)')
    .replace(/\bcpu\b/, 'CPU')
    .replace(/\burl\b/, 'address')
  return words.charAt(0).toUpperCase() + words.slice(1)
}

export type Row = Record<string, string>
/** What the form holds for each field: as it is typed. */
export type FormValues = Record<string, string | boolean | Row[] | undefined>

/** The input that the form stands for; what was left empty is left out. */
export function inputOf(fields: readonly FormField[], values: FormValues): Record<string, unknown> {
  const given = fields.map((field) => [field.name, valueOf(field, values[field.name])] as const)
  return Object.fromEntries(given.filter(([, value]) => value !== undefined))
}

function valueOf(field: FormField, value: FormValues[string]): unknown {
  if (field.control === 'rows') return Array.isArray(value) && value.length > 0 ? value : undefined
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string' || value.trim() === '') return undefined
  switch (field.control) {
    case 'number':
      return Number.isNaN(Number(value)) ? value : Number(value)
    case 'lines':
      return value.split('\n').filter((line) => line.trim() !== '')
    case 'pairs':
      return Object.fromEntries(value.split('\n').filter(Boolean).map(pairOf))
    default:
      return value
  }
}

function pairOf(line: string): [string, string] {
  const at = line.indexOf('=')
  return at === -1 ? [line.trim(), ''] : [line.slice(0, at).trim(), line.slice(at + 1)]
}

/** The other way round: an earlier task's input, to be changed and sent again. */
export function valuesOf(fields: readonly FormField[], input: Record<string, unknown>): FormValues {
  return Object.fromEntries(
    fields.map(({ name, control }) => {
      const value = input[name]
      if (value === undefined || value === null) return [name, undefined]
      if (control === 'switch') return [name, Boolean(value)]
      if (control === 'rows') return [name, value as Row[]]
      if (control === 'lines') return [name, (value as string[]).join('\n')]
      if (control === 'pairs')
        return [
          name,
          Object.entries(value as Row)
            .map(([key, text]) => `${key}=${text}`)
            .join('\n'),
        ]
      return [name, String(value)]
    }),
  )
}
