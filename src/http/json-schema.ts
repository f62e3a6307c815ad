/** From the schemas that check requests to JSON Schema 2020-12, as the OpenAPI document shows them. */
import { toJsonSchema } from '@valibot/to-json-schema'
import * as v from 'valibot'

/** A JSON Schema, or a part of one. */
export type JsonSchema = {
  $ref?: string
  title?: string
  description?: string
  type?: string | readonly string[]
  format?: string
  pattern?: string
  enum?: readonly unknown[]
  const?: unknown
  default?: unknown
  examples?: readonly unknown[]
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  minItems?: number
  properties?: Record<string, JsonSchema>
  required?: readonly string[]
  additionalProperties?: boolean | JsonSchema
  items?: JsonSchema
  anyOf?: readonly JsonSchema[]
  oneOf?: readonly JsonSchema[]
  allOf?: readonly JsonSchema[]
  propertyNames?: JsonSchema
}

/** Where the components of the document are. */
const REFERENCE = '#/components/schemas/'

/**
 * What comes in is described as it is sent, before anything is made of it; what goes out, as it arrives. `components`
 * are referred to by name. What JSON Schema cannot say (a check, a transformation) is left out: it is for the
 * schema's own description to say.
 */
export function jsonSchemaOf(
  schema: v.GenericSchema,
  direction: 'input' | 'output',
  components: Readonly<Record<string, v.GenericSchema>> = {},
): JsonSchema {
  const {
    $schema: _dialect,
    $defs,
    ...converted
  } = toJsonSchema(schema, {
    target: 'draft-2020-12',
    typeMode: direction,
    errorMode: 'throw',
    definitions: components,
    overrideRef: ({ referenceId }) => `${REFERENCE}${referenceId}`,
    overrideAction: ({ valibotAction, jsonSchema, errors }) =>
      valibotAction.type === 'regex'
        ? withPattern(jsonSchema as JsonSchema, (valibotAction as unknown as RegexAction).requirement)
        : errors
          ? jsonSchema
          : undefined,
    overrideSchema: ({ valibotSchema, jsonSchema }) =>
      refine(valibotSchema as Refined, jsonSchema as JsonSchema, direction),
  } as Parameters<typeof toJsonSchema>[1])
  return converted as JsonSchema
}

type RegexAction = { requirement: RegExp }

/** JSON Schema reads patterns as if they bore the flag u, and knows no other (2020-12 validation §6.3.3). */
function withPattern(schema: JsonSchema, { source, flags }: RegExp): JsonSchema {
  if (flags.replace('u', '') !== '') return schema
  // The converter has put the first one in its place already.
  if (schema.pattern === undefined || schema.pattern === source) return { ...schema, pattern: source }
  return { ...schema, allOf: [...(schema.allOf ?? []), { pattern: source }] }
}

type Refined = v.GenericSchema & { entries?: Record<string, v.GenericSchema> }

function refine({ type, entries }: Refined, schema: JsonSchema, direction: 'input' | 'output') {
  if (type === 'nullable') return withNull(schema)
  if (!entries) return undefined
  const properties = Object.entries(schema.properties ?? {}).map(([name, member]) => [
    name,
    withDescription(member, entries[name]),
  ])
  const described: JsonSchema = { ...schema, properties: Object.fromEntries(properties) }
  if (type === 'loose_object') return { ...described, additionalProperties: true }
  // Answers may gain members: who reads them should not refuse what is new.
  if (direction === 'output' && type === 'strict_object') delete described.additionalProperties
  return described
}

function withNull(schema: JsonSchema): JsonSchema | undefined {
  const [inner] = schema.anyOf ?? []
  if (typeof inner?.type !== 'string') return undefined
  const { anyOf: _either, ...outer } = schema
  const values = inner.enum && { enum: [...inner.enum, null] }
  return { ...inner, ...outer, ...values, type: [inner.type, 'null'] }
}

/** What is said of a value after it was transformed is said of it all the same. */
export function withDescription(described: JsonSchema, schema: v.GenericSchema | undefined): JsonSchema {
  const text = schema && descriptionOf(schema)
  return text === undefined || described.description !== undefined || described.$ref !== undefined
    ? described
    : { ...described, description: text }
}

function descriptionOf(schema: v.GenericSchema): string | undefined {
  const own = v.getDescription(schema)
  return own === undefined && 'wrapped' in schema ? descriptionOf(schema.wrapped as v.GenericSchema) : own
}

/** Every schema with a title within these, by it, without spaces. Throws TypeError where two that differ share one. */
export function titledSchemas(schemas: readonly v.GenericSchema[]): Record<string, v.GenericSchema> {
  const found = new Map<string, v.GenericSchema>()
  const visit = (schema: v.GenericSchema): void => {
    const title = v.getTitle(schema)?.replace(/\s+(\w)/g, (_, letter) => letter.toUpperCase())
    if (title !== undefined) {
      const known = found.get(title)
      if (known === schema) return
      if (known) throw new TypeError(`two schemas are called ${title}`)
      found.set(title, schema)
    }
    for (const inner of partsOf(schema)) visit(inner)
  }
  for (const schema of schemas) visit(schema)
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)))
}

function partsOf(schema: v.GenericSchema): v.GenericSchema[] {
  const { entries, item, items, wrapped, options, value, rest } = schema as v.GenericSchema & {
    entries?: Record<string, v.GenericSchema>
    item?: v.GenericSchema
    items?: v.GenericSchema[]
    wrapped?: v.GenericSchema
    options?: unknown[]
    value?: v.GenericSchema
    rest?: v.GenericSchema
  }
  const parts: unknown[] = [
    ...Object.values(entries ?? {}),
    item,
    ...(items ?? []),
    wrapped,
    ...(options ?? []),
    value,
    rest,
  ]
  return parts.filter(
    (part): part is v.GenericSchema => typeof part === 'object' && part !== null && 'kind' in part,
  )
}
