/**
 * Ids are TypeIDs: a prefix that says what they name and a UUIDv7, so that they sort by time of making. They are
 * names, not secrets: nothing may be had by guessing one.
 */
import { randomUUIDv7 } from 'node:crypto'
import { fromUUIDBytes, typeid } from 'typeid-js'

const PREFIXES = {
  organization: 'org',
  client: 'cli',
  key: 'key',
  delegation: 'dlg',
  token: 'tok',
  auditEvent: 'evt',
} as const
export type IdKind = keyof typeof PREFIXES

/** In the order of their making, as far as this process makes them. */
export const newId = (kind: IdKind): string => typeid(PREFIXES[kind]).toString()

/** A `jti`, by the platform's own UUIDv7: every exchange makes one, and within a millisecond no order is needed of them. */
export const newJti = (): string =>
  fromUUIDBytes(PREFIXES.token, Buffer.from(randomUUIDv7().replaceAll('-', ''), 'hex'))

/** The exact spelling of an id of that kind: 26 characters of Crockford's base32, lower case, first at most 7. */
export const idPattern = (kind: IdKind): RegExp =>
  new RegExp(`^${PREFIXES[kind]}_[0-7][0-9a-hjkmnp-tv-z]{25}$`)
