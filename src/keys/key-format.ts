/**
 * The format of a key: `sgt_live_` or `sgt_test_`, 12 base62 characters of lookup id, 32 of secret (190 bits), and
 * 6 of checksum: CRC-32 over everything before them, as base62 with `0` on the left. Underscores are the only
 * separators, so that a double click selects all of it.
 *
 * The checksum finds typing mistakes and lets scanners tell a key from noise. It is no security: what authenticates
 * is the SHA-256 of the whole key, compared in constant time.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { crc32 } from 'node:zlib'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const MODES = { sandbox: 'test', production: 'live' } as const
const LOOKUP_LENGTH = 12
const SECRET_LENGTH = 32
const CHECKSUM_LENGTH = 6
/** How much of a key may be shown: enough to recognize it by, none of its secret. */
const SHOWN_LENGTH = 15

type KeyEnvironment = keyof typeof MODES

export type ParsedKey = { environment: KeyEnvironment; lookupId: string; hash: Uint8Array }
export type GeneratedKey = ParsedKey & { key: string; prefix: string }

export type KeyFormat = {
  /** Makes a new key from the system's random source. The caller shows `key` once and stores the rest. */
  generate(environment: KeyEnvironment): GeneratedKey
  /** The parts of a well-formed key with the right checksum, else undefined. Never throws, reads no database. */
  parse(text: string): ParsedKey | undefined
}

/** `vendor` is what the keys begin with: `sgt`. */
export function createKeyFormat(vendor: string): KeyFormat {
  const shape = new RegExp(
    `^${vendor}_(live|test)_([0-9A-Za-z]{${LOOKUP_LENGTH}})[0-9A-Za-z]{${SECRET_LENGTH + CHECKSUM_LENGTH}}$`,
  )
  return {
    generate(environment) {
      const lookupId = randomBase62(LOOKUP_LENGTH)
      const body = `${vendor}_${MODES[environment]}_${lookupId}${randomBase62(SECRET_LENGTH)}`
      const key = body + checksum(body)
      return { environment, lookupId, hash: hashKey(key), key, prefix: key.slice(0, SHOWN_LENGTH) }
    },
    parse(text) {
      const [, mode, lookupId] = shape.exec(text) ?? []
      if (lookupId === undefined) return undefined
      if (text.slice(-CHECKSUM_LENGTH) !== checksum(text.slice(0, -CHECKSUM_LENGTH))) return undefined
      return { environment: mode === 'live' ? 'production' : 'sandbox', lookupId, hash: hashKey(text) }
    },
  }
}

/** SHA-256: at 190 random bits a slow hash would protect nothing and cost every request. */
const hashKey = (key: string): Uint8Array => hash('sha256', key, 'buffer')

/** Whether two key hashes are equal, in a time that does not depend on where they differ. */
export const sameHash = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && timingSafeEqual(a, b)

export function checksum(text: string): string {
  let rest = crc32(text)
  let digits = ''
  for (let i = 0; i < CHECKSUM_LENGTH; i++) {
    digits = ALPHABET.charAt(rest % 62) + digits
    rest = Math.floor(rest / 62)
  }
  return digits
}

function randomBase62(length: number): string {
  let text = ''
  while (text.length < length) {
    for (const byte of randomBytes(2 * length)) {
      // Rejection sampling: 248 is the largest multiple of 62 in a byte; `byte % 62` of all would favour some digits.
      if (byte < 248 && text.length < length) text += ALPHABET.charAt(byte % 62)
    }
  }
  return text
}
