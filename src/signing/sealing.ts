/**
 * Sealing: secrets that must be stored are stored as compact JWE (`dir`, A256GCM) under a key-encryption key that is
 * not in the database. The row's id and the purpose are bound in, so that a ciphertext moved to another row, or used
 * for another purpose, does not open.
 */
import { hash } from 'node:crypto'
import { CompactEncrypt, compactDecrypt, decodeProtectedHeader, errors } from 'jose'

/** What a ciphertext belongs to. */
export type SealContext = { purpose: string; id: string }

export type Sealing = {
  seal(secret: Uint8Array, context: SealContext): Promise<string>
  /** Throws SealError when the key-encryption key is missing or wrong, or the ciphertext is not this row's. */
  open(sealed: string, context: SealContext): Promise<Uint8Array>
}

export class SealError extends Error {
  override name = 'SealError'
}

/** The first key seals, all of them open: so that the key-encryption key itself can rotate. Each has 32 bytes. */
export function createSealing(keyEncryptionKeys: readonly Uint8Array[]): Sealing {
  const byId = new Map(keyEncryptionKeys.map((key) => [keyId(key), key]))
  const [current] = byId.entries()
  if (!current) throw new TypeError('sealing needs a key-encryption key')
  const [currentId, currentKey] = current

  return {
    seal(secret, context) {
      // The protected header is JWE's authenticated data (RFC 7516 §5.1): the context goes there.
      return new CompactEncrypt(secret)
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid: currentId, ...bound(context) })
        .encrypt(currentKey)
    },
    async open(sealed, context) {
      const { kid } = protectedHeader(sealed, context)
      const key = byId.get(String(kid))
      if (!key)
        throw new SealError(
          `${context.purpose} ${context.id} is sealed under another key-encryption key (id ${String(kid)}; KEY_ENCRYPTION_KEY holds ${[...byId.keys()].join(', ')})`,
        )
      try {
        const { plaintext, protectedHeader: header } = await compactDecrypt(sealed, key, {
          keyManagementAlgorithms: ['dir'],
          contentEncryptionAlgorithms: ['A256GCM'],
        })
        const { prp, rid } = bound(context)
        if (header.prp === prp && header.rid === rid) return plaintext
      } catch (error) {
        if (!(error instanceof errors.JOSEError)) throw error
      }
      throw new SealError(
        `the sealed ${context.purpose} in row ${context.id} is not the one that was sealed there`,
      )
    },
  }
}

/** Names a key-encryption key without telling anything of it. */
const keyId = (key: Uint8Array): string => {
  if (key.length !== 32) throw new TypeError('a key-encryption key has 32 bytes')
  return hash('sha256', Buffer.concat([Buffer.from('signet key-encryption key id'), key]), 'hex').slice(0, 16)
}

const bound = (context: SealContext) => ({ prp: context.purpose, rid: context.id })

function protectedHeader(sealed: string, context: SealContext) {
  try {
    return decodeProtectedHeader(sealed)
  } catch {
    throw new SealError(`the sealed ${context.purpose} in row ${context.id} is damaged`)
  }
}
