/**
 * The Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07): a request that bears one takes effect once,
 * however often it is sent. What is remembered is written with the effect, in its transaction (store.ts).
 */
import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { ApiError } from '../errors.ts'

/** RFC 9651 §3.3.3: a string in quotes, `"` and `\` escaped. Most clients send it bare: the same key. */
const QUOTED = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/
const BARE = /^[\x21\x23-\x5b\x5d-\x7e]{1,255}$/
const VISIBLE = /^[\x21-\x7e]{1,255}$/

/** The key, or undefined where there is none. Throws ApiError `invalid_request` on several, and on what is no key. */
export function parseIdempotencyKey(request: Pick<IncomingMessage, 'headersDistinct'>): string | undefined {
  const lines = request.headersDistinct['idempotency-key']
  if (lines === undefined) return undefined
  const [line = ''] = lines
  const key = QUOTED.exec(line)?.[1]?.replace(/\\(["\\])/g, '$1') ?? (BARE.test(line) ? line : '')
  if (lines.length > 1 || !VISIBLE.test(key))
    throw new ApiError(
      'invalid_request',
      'Idempotency-Key must be sent once and hold 1 to 255 visible ASCII characters, in quotes or bare.',
    )
  return key
}

/** What is kept of a key, which may be anything, a secret that strayed into the field too. */
export const digestOf = (key: string): string => hash('sha256', key, 'base64url')

/** Of what is asked for: the same request has the same one, however its JSON is spelled, and no other has it. */
export const fingerprintOf = (method: string, path: string, body: unknown): Uint8Array =>
  hash('sha256', JSON.stringify([method, path, 'application/json', canonical(body)]), 'buffer')

/** JSON with the names of every object in order; of no body, nothing. Beyond what JSON can write: 1e400 is no null. */
function canonical(value: unknown): string {
  if (value === undefined) return ''
  if (typeof value === 'number') return String(value)
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical)}]`
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`)}}`
}

/**
 * Refusals that would be the same again. Not those that another token, another moment or another instance may answer
 * otherwise (401, 403, 429, 5xx), and not the 409 and 422 of the key itself, which are made elsewhere.
 */
export const isLasting = (status: number): boolean => [400, 404, 409].includes(status)
