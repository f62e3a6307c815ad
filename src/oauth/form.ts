/** Forms (`application/x-www-form-urlencoded`): one meaning or none (RFC 6749 §3.2, appendix B). */
import type { IncomingMessage } from 'node:http'
import { ApiError } from '../errors.ts'
import { readText } from '../http/body.ts'
import { fieldOf } from '../http/fields.ts'

export type Form = {
  /** Undefined: absent, or empty, which RFC 6749 §3.2 has count as the same. */
  get(name: string): string | undefined
  /** Of a parameter that may stand several times. */
  getAll(name: string): readonly string[]
}

/** Its parameters say nothing here, but for a charset that is another one than UTF-8, or part of it. */
const MEDIA_TYPE = /^application\/x-www-form-urlencoded[\t ]*(?:;|$)/i
const FOREIGN_CHARSET =
  /;[\t ]*charset[\t ]*=(?![\t ]*(?:utf-?8|us-ascii|"(?:utf-?8|us-ascii)")[\t ]*(?:;|$))/i
/** RFC 8693 §2.1, RFC 8707 §2. */
const REPEATABLE = ['resource', 'audience']

/**
 * Reads the body. What the URL's query says is no parameter. Throws ApiError: 400 `invalid_request` on another media
 * type or coding, malformed encoding, or a parameter that stands twice; 413 past 16 KiB.
 */
export async function readForm(incoming: IncomingMessage): Promise<Form> {
  const type = fieldOf(incoming, 'content-type') ?? ''
  if (!MEDIA_TYPE.test(type) || FOREIGN_CHARSET.test(type))
    throw invalid('The body must be application/x-www-form-urlencoded.')
  if ((fieldOf(incoming, 'content-encoding') ?? 'identity').toLowerCase() !== 'identity')
    throw invalid('The body must not have a content coding.')
  return parseForm(await readText(incoming))
}

/** Throws ApiError `invalid_request`. */
export function parseForm(text: string): Form {
  // A Map: names are the caller's.
  const values = new Map<string, string[]>()
  for (const pair of text.split('&')) {
    if (pair === '') continue
    const [, name = '', value = ''] = /^([^=]*)=?(.*)$/s.exec(pair) ?? []
    const decodedName = decodePart(name)
    const known = values.get(decodedName)
    // Which of two is meant is anybody's guess.
    if (known && !REPEATABLE.includes(decodedName)) throw invalid('A parameter stands twice in the body.')
    values.set(decodedName, [...(known ?? []), decodePart(value)])
  }
  const getAll = (name: string) => (values.get(name) ?? []).filter((value) => value !== '')
  return { get: (name) => getAll(name)[0], getAll }
}

/** Throws ApiError `invalid_request` on `%zz`, and on what is not UTF-8. */
function decodePart(text: string): string {
  const decoded = formDecode(text)
  if (decoded === undefined) throw invalid('The body is not properly form-encoded.')
  return decoded
}

/** RFC 6749 appendix B: `+` is a space, `%XX` a byte of UTF-8. Undefined: malformed. */
export function formDecode(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}

const invalid = (detail: string) => new ApiError('invalid_request', detail)
