/** Strict JSON bodies: one meaning or none (RFC 8259 §4: what duplicate names mean is anybody's guess). */
import type { IncomingMessage } from 'node:http'
import * as v from 'valibot'
import { countMembers, MAX_DEPTH, shapeOf } from '#sdk/strict-json'
import { ApiError, brokenRule, type MemberError } from '../errors.ts'
import { readText } from './body.ts'
import { fieldOf } from './fields.ts'

/** Longer than the name of any member, shorter than any key. */
const MAX_NAME_LENGTH = 40
const MEDIA_TYPE = /^application\/json[\t ]*(?:;[\t ]*charset="?utf-8"?[\t ]*)?$/i

/**
 * Reads the body and checks it against a schema whose objects are strict: an unknown member is an error too.
 * Throws ApiError: 415 on another media type or coding, 413 past 16 KiB, 400 `invalid_request` on what is not
 * UTF-8, not JSON, has duplicate names, is nested too deeply, or breaks the schema, with a pointer to each member.
 */
export async function readJsonBody<Schema extends v.GenericSchema>(
  incoming: IncomingMessage,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  requireJson(incoming)
  return checkMembers(schema, parseStrictJson(await readText(incoming)), 'body')
}

/**
 * The text of a JSON body, not yet parsed; undefined where there is no body at all, or nothing in it. Throws ApiError: 415 on
 * another media type or coding, 413 past 16 KiB, 400 on what is not UTF-8.
 */
export async function readOptionalJsonText(incoming: IncomingMessage): Promise<string | undefined> {
  const { headers } = incoming
  const isChunked = headers['transfer-encoding'] !== undefined
  if (!isChunked && Number(headers['content-length'] ?? 0) === 0) return undefined
  // Some clients send an empty body, in chunks and without a type, with every POST.
  if (isChunked && headers['content-type'] === undefined && (await readText(incoming)) === '')
    return undefined
  requireJson(incoming)
  return (await readText(incoming)) || undefined
}

function requireJson(incoming: IncomingMessage): void {
  if (!MEDIA_TYPE.test(fieldOf(incoming, 'content-type') ?? ''))
    throw new ApiError('unsupported_media_type', 'The body must be application/json.', {
      headers: { Accept: 'application/json' },
    })
  if ((fieldOf(incoming, 'content-encoding') ?? 'identity') !== 'identity')
    throw new ApiError('unsupported_media_type', 'The body must not have a content coding.', {
      headers: { 'Accept-Encoding': 'identity' },
    })
}

/** What the schema makes of the value. Throws ApiError `invalid_request` with a pointer to each member that breaks a rule. */
export function checkMembers<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  what: 'body' | 'query',
): v.InferOutput<Schema> {
  // To the schema of an object whose members are all optional, an array is one without members.
  if (Array.isArray(value)) throw brokenRule(what, { pointer: '', detail: 'must be an object' })
  // One member, one error: the first rule that it breaks.
  const parsed = v.safeParse(schema, value, { abortPipeEarly: true })
  if (parsed.success) return parsed.output
  throw brokenRule(what, ...parsed.issues.map(toMemberError))
}

/** The value of a JSON text in which every name stands once in its object. Throws ApiError. */
export function parseStrictJson(text: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw invalid('The body is not valid JSON.')
  }
  const shape = shapeOf(text)
  if (shape.depth > MAX_DEPTH) throw invalid('The body is nested too deeply.')
  // Each member has one colon outside of strings; of duplicates, JSON.parse kept only the last.
  if (shape.colons !== countMembers(value)) throw invalid('The body has duplicate names in an object.')
  return value
}

const invalid = (detail: string) => new ApiError('invalid_request', detail)

function toMemberError(issue: v.BaseIssue<unknown>): MemberError {
  const names = (issue.path ?? []).map(({ key }) => String(key))
  // So long a name is a value in the wrong place, a key perhaps, and is not repeated: its object is pointed to.
  if ((names.at(-1)?.length ?? 0) > MAX_NAME_LENGTH) names.pop()
  const pointer = names.map((name) => `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
  return { pointer, detail: describe(issue) }
}

/** valibot's own messages repeat what was received; ours say what was expected. */
function describe(issue: v.BaseIssue<unknown>): string {
  if (issue.type.endsWith('_object') && issue.expected !== 'Object')
    return issue.expected === 'never' ? 'is not a member here' : 'is required'
  // Of a choice, the rule names what there is to choose from.
  if (issue.type === 'picklist' && issue.message.startsWith('must ')) return issue.message
  return issue.kind === 'schema' ? `must be ${typeName(issue.expected)}` : issue.message
}

const typeName = (expected: string | null) =>
  ({ Object: 'an object', Array: 'an array' })[expected ?? ''] ?? `a ${expected}`
