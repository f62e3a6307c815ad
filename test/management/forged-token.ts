/** Tokens with a good signature and any claims at all: what the service itself would never mint. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { exportSPKI, SignJWT } from 'jose'
import { connectAsPlatform, disconnect } from '../../src/database/database.ts'
import { newJti } from '../../src/ids.ts'
import { createSealing } from '../../src/signing/sealing.ts'
import { openSigningKey } from '../../src/signing/signing-key.ts'
import { createSigningKeyStore } from '../../src/signing/store.ts'
import type { TestDatabase } from '../support/database.ts'
import type { SeededClient } from '../support/seed.ts'
import { ISSUER, KEY_ENCRYPTION_KEY } from '../support/service.ts'

export type Forger = {
  /** By the service's own signing key, for the management API, unless told otherwise. */
  sign(
    client: Pick<SeededClient, 'organizationId' | 'clientId' | 'keyId'>,
    claims?: Record<string, unknown>,
    header?: Record<string, unknown>,
  ): Promise<string>
  /** The public key as PEM: an attacker's secret for HS256. */
  publicPem: string
  kid: string
}

export async function createForger(database: TestDatabase, environment = 'production'): Promise<Forger> {
  const platform = connectAsPlatform(database.target, { max: 1, statementTimeoutMilliseconds: 5_000 })
  const rows = await createSigningKeyStore(platform).findCurrent()
  await disconnect(platform)
  const row = rows.find((each) => each.environment === environment)
  if (!row) throw new Error('there is no signing key')
  const key: KeyObject = await openSigningKey(row, createSealing([KEY_ENCRYPTION_KEY]))
  const publicKey = createPublicKey(createPrivateKey(key.export({ type: 'pkcs8', format: 'pem' })))
  return {
    kid: row.kid,
    publicPem: await exportSPKI(publicKey),
    sign({ organizationId, clientId, keyId }, claims = {}, header = {}) {
      const now = Math.floor(Date.now() / 1000)
      const payload = {
        ...{ iss: ISSUER, sub: clientId, aud: ISSUER, iat: now, exp: now + 600, jti: newJti() },
        ...{ client_id: clientId, key_id: keyId, organization_id: organizationId, environment: 'production' },
        scope: 'signet:organizations:read signet:organizations:write',
        ...claims,
      }
      return new SignJWT(payload)
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: row.kid, ...header })
        .sign(key)
    },
  }
}
