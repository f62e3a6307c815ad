/** What values look like on the wire, said once: for checking what comes in, and for documenting what goes out. */
import * as v from 'valibot'
import { ENVIRONMENTS } from '../database/schema.ts'
import { type IdKind, idPattern, newId } from '../ids.ts'

export const id = (kind: IdKind) =>
  v.pipe(v.string(), v.regex(idPattern(kind), 'must be an id of that kind'), v.examples([exampleId(kind)]))

/** For documents: an id of that kind, always the same. */
export const exampleId = (kind: IdKind): string => newId(kind).replace(/_.*/, '_01kb2d3v7fe8ntqr5x9w0c4m6h')

/** RFC 3339, UTC, milliseconds: how every moment goes out. */
export const timestamp = () => v.pipe(v.string(), v.isoTimestamp())

/** A moment that a caller names (RFC 3339, with its offset); what comes of it is a Date. */
export const moment = () =>
  v.pipe(
    v.string(),
    v.regex(
      /^\d{4}-\d\d-\d\d[Tt](?:[01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/,
      'must be an RFC 3339 timestamp with its offset',
    ),
    v.metadata({ format: 'date-time', examples: ['2027-01-01T00:00:00Z'] }),
    // Date takes the 30th of February for the 2nd of March.
    v.check(isOnCalendar, 'must be a moment that exists'),
    v.transform((text) => new Date(text)),
    // In UTC; what lies beyond has no four-digit year to be written with.
    v.check(
      (date) => date.getUTCFullYear() >= 1970 && date.getUTCFullYear() < 10_000,
      'must be a moment that exists',
    ),
  )

function isOnCalendar(text: string): boolean {
  const [year = 0, month = 0, day = 0] = text.slice(0, 10).split('-').map(Number)
  const date = new Date(Date.UTC(year, month - 1, day))
  return !Number.isNaN(Date.parse(text)) && date.getUTCMonth() === month - 1 && date.getUTCDate() === day
}

/** A name that people read. No control characters: it ends up in logs, lists and terminals. */
export const displayName = () =>
  v.pipe(
    v.string(),
    v.nonEmpty('must not be empty'),
    v.maxLength(100, 'must be at most 100 characters long'),
    v.regex(/^[^\p{Cc}\p{Cs}]*$/u, 'must hold no control characters and no lone surrogates'),
    // They would make the rest of a line, in a list or a log, read as something else.
    v.regex(/^[^\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]*$/u, 'must not change the direction or the line'),
    v.check((text) => text.trim() === text, 'must not begin or end with white space'),
    v.examples(['Acme']),
  )

export const environment = () => v.picklist(ENVIRONMENTS, `must be one of ${ENVIRONMENTS.join(', ')}`)

export const integer = (from: number, to: number) => {
  const rule = `must be an integer from ${from} to ${to}`
  return v.pipe(v.number(), v.integer(rule), v.minValue(from, rule), v.maxValue(to, rule))
}

/** Of every token: what the exchange takes, and the ceilings that clients and delegations may set. */
export const MIN_EXPIRY_SECONDS = 300
export const MAX_EXPIRY_SECONDS = 86_400
export const expirySeconds = () => integer(MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS)

/** RFC 6749 §3.3: scope-token, of a length that fits into lists and logs. Compared exactly. */
export const SCOPE_TOKEN = /^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/
export const SCOPE_RULE = 'must be 1 to 128 visible ASCII characters without space, quote and backslash'
export const MAX_SCOPES = 100
export const scope = () => v.pipe(v.string(), v.regex(SCOPE_TOKEN, SCOPE_RULE))

/** What may be granted. RFC 6749 §3.3: a set; saying it twice adds nothing. */
export const scopes = <Each extends v.GenericSchema<string, string>>(each: Each) =>
  v.pipe(
    v.array(each),
    v.minLength(1, 'must hold at least one scope'),
    v.maxLength(MAX_SCOPES, `must hold at most ${MAX_SCOPES} scopes`),
    v.transform((all) => [...new Set(all)]),
    v.examples([['transactions:read', 'person:write']]),
  )

/** As it goes out, or null. */
export const isoOf = (date: Date | null): string | null => date?.toISOString() ?? null
