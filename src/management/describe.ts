/** The operations of the management API as the OpenAPI document describes them. */
import * as v from 'valibot'
import type { ErrorCode } from '../errors.ts'
import type { Description } from '../http/description.ts'
import type { Operation } from './operation.ts'
import { DEFAULT_LIMIT, MAX_LIMIT, PARAMETERS } from './routes.ts'
import { exampleId } from './wire.ts'

/** What any request may run into before it is looked at. */
const ALWAYS: readonly ErrorCode[] = [
  'invalid_request',
  'invalid_token',
  'insufficient_scope',
  'rate_limited',
  'server_error',
  'unavailable',
]
const OF_CHANGES: readonly ErrorCode[] = [
  'conflict',
  'content_too_large',
  'unsupported_media_type',
  'idempotency_mismatch',
]

/** As routes.ts reads them; what arrives as text is a number all the same. */
const PAGE = {
  limit: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(1),
      v.maxValue(MAX_LIMIT),
      v.description('How many items to answer with.'),
    ),
    DEFAULT_LIMIT,
  ),
  cursor: v.optional(
    v.pipe(
      v.string(),
      v.maxLength(1000),
      v.description(
        'The `next_cursor` of the page before, with the same filters; absent: from the newest on.',
      ),
      v.examples(['bmV4dCBwYWdl']),
    ),
  ),
}

const PARAMETER_TEXTS: Readonly<Record<string, { text: string; example: string }>> = {
  organization_id: { text: 'The organization’s id.', example: exampleId('organization') },
  client_id: { text: 'The client’s id.', example: exampleId('client') },
  key_id: { text: 'The key’s id; not the key itself.', example: exampleId('key') },
  delegation_id: { text: 'The delegation’s id.', example: exampleId('delegation') },
  jti: { text: 'The token’s id: its claim `jti`.', example: exampleId('token') },
  kid: {
    text: 'The signing key’s id: its RFC 7638 thumbprint.',
    example: 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs',
  },
}

function describeParameter(name: string): v.GenericSchema {
  const pattern = PARAMETERS[name]
  const known = PARAMETER_TEXTS[name]
  if (!pattern || !known) throw new TypeError(`the parameter ${name} has no description`)
  return v.pipe(v.string(), v.regex(pattern), v.description(known.text), v.examples([known.example]))
}

export function describeOperation(operation: Operation): Description {
  const { id, method, path, tag, summary, description, scope, does, query, body, resource } = operation
  const isChange = does.kind === 'change'
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name)
  const errors = new Set([
    ...ALWAYS,
    ...(parameters.length > 0 ? (['not_found'] as const) : []),
    ...(isChange ? OF_CHANGES : []),
    ...(operation.errors ?? []),
  ])
  return {
    id,
    method,
    path,
    tag,
    summary,
    ...(description === undefined ? {} : { description }),
    security: 'access_token',
    scope,
    parameters: Object.fromEntries(parameters.map((name) => [name, describeParameter(name)])),
    query: { ...filtersOf(query), ...(does.kind === 'list' ? PAGE : {}) },
    ...(body ? { body: { schema: body, isRequired: !operation.isBodyOptional } } : {}),
    takesIdempotencyKey: isChange,
    answers: {
      [operation.status]: {
        description: answerTextOf(operation),
        schema: does.kind === 'list' ? pageOf(resource) : resource,
        headers: isChange
          ? {
              ...(operation.status === 201 ? { Location: 'Where the resource is.' } : {}),
              'Idempotency-Replayed': '`true` where the answer is that of an earlier request.',
            }
          : {},
      },
    },
    errors: [...errors],
  }
}

function answerTextOf({ status, does }: Operation): string {
  if (status === 201) return 'It was made.'
  return does.kind === 'list' ? 'A page of the list, the newest first.' : 'The resource, as it is now.'
}

function pageOf(item: v.GenericSchema): v.GenericSchema {
  const page = v.strictObject({
    data: v.array(item),
    next_cursor: v.pipe(
      v.nullable(v.string()),
      v.description('For the next page; null: this is the last one.'),
      v.examples([null]),
    ),
  })
  const title = v.getTitle(item)
  return title === undefined ? page : v.pipe(page, v.title(`${title}Page`))
}

/** Filters say what they are, or else that they are one. */
function filtersOf(query: v.GenericSchema | undefined): Record<string, v.GenericSchema> {
  const entries = query && 'entries' in query ? (query.entries as Record<string, v.GenericSchema>) : {}
  return Object.fromEntries(
    Object.entries(entries).map(([name, schema]) => {
      const inner = 'wrapped' in schema ? (schema.wrapped as v.GenericSchema) : schema
      const isDescribed = v.getDescription(schema) ?? v.getDescription(inner)
      return [name, isDescribed ? schema : v.pipe(schema, v.description(`Only those with this \`${name}\`.`))]
    }),
  )
}
