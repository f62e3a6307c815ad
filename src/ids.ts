/**
 * Ids are TypeIDs: a prefix that says what they name and a UUIDv7, so that they sort by time of making. They are
 * names, not secrets: nothing may be had by guessing one.
 */
import { typeid } from 'typeid-js'

const PREFIXES = {
  organization: 'org',
  client: 'cli',
  key: 'key',
  delegation: 'dlg',
  token: 'tok',
  auditEvent: 'evt',
} as const
export type IdKind = keyof typeof PREFIXES

export const newId = (kind: IdKind): string => typeid(PREFIXES[kind]).toString()

/** The exact spelling of an id of that kind: 26 characters of Crockford's base32, lower case, first at most 7. */
export const idPattern = (kind: IdKind): RegExp =>
  new RegExp(`^${PREFIXES[kind]}_[0-7][0-9a-hjkmnp-tv-z]{25}$`)
