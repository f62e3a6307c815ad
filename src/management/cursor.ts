/**
 * Cursors: where a list goes on. They bear a MAC over whose list of what it is, so that a cursor that is forged, edited
 * or another list's does not open.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import { brokenRule } from '../errors.ts'

/** Whose list, of what, by which filters. */
export type ListIdentity = { organizationId: string; path: string; filters: Readonly<Record<string, string>> }

export type Cursors = {
  make(position: string, list: ListIdentity): string
  /** The position. Throws ApiError `invalid_request` on what is no cursor of this list. */
  open(cursor: string, list: ListIdentity): string
}

/** Keys are derived from the key-encryption keys: the first makes cursors, all of them open. */
export function createCursors(keyEncryptionKeys: readonly Uint8Array[]): Cursors {
  const keys = keyEncryptionKeys.map((key) => Buffer.from(hkdfSync('sha256', key, '', 'signet cursor', 32)))
  const [current] = keys
  if (!current) throw new TypeError('cursors need a key')

  function macOf(key: Buffer, position: string, { organizationId, path, filters }: ListIdentity): Buffer {
    const covered = JSON.stringify([position, organizationId, path, Object.entries(filters).sort()])
    return createHmac('sha256', key).update(covered).digest()
  }

  return {
    make: (position, list) =>
      Buffer.concat([macOf(current, position, list), Buffer.from(position)]).toString('base64url'),
    open(cursor, list) {
      const bytes = Buffer.from(cursor, 'base64url')
      const mac = bytes.subarray(0, 32)
      const position = bytes.subarray(32).toString()
      // One spelling only: Buffer skips what is no base64url.
      const isStrict = mac.length === 32 && bytes.toString('base64url') === cursor
      if (isStrict && keys.some((key) => timingSafeEqual(mac, macOf(key, position, list)))) return position
      throw brokenRule('query', { pointer: '/cursor', detail: 'must be the next_cursor of this very list' })
    },
  }
}
