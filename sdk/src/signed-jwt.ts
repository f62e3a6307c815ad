import { compactVerify } from 'jose'
import type { VerificationAlgorithm } from './algorithms.ts'
import { type JwtKind, parseCompactJws } from './compact-jws.ts'
import type { VerificationKey } from './key-set.ts'
import type { KeySource } from './key-source.ts'
import { type JsonObject, parseJsonObject } from './strict-json.ts'
import { VerificationError } from './verification-error.ts'

type By = {
  readonly algorithms: ReadonlySet<VerificationAlgorithm>
  readonly keySource: Pick<KeySource, 'find'>
}

/**
 * The payload of a JWT of that kind, once its form, its header and its signature have been found good. What it says is
 * still to be judged. Rejects with `VerificationError`.
 */
export async function readSignedJwt(jwt: unknown, kind: JwtKind, by: By): Promise<JsonObject> {
  return (await readJwtAndKid(jwt, kind, by)).payload
}

/** The same, and which of the issuer's keys signed it. */
export async function readJwtAndKid(
  jwt: unknown,
  kind: JwtKind,
  by: By,
): Promise<{ readonly payload: JsonObject; readonly kid: string }> {
  const jws = parseCompactJws(jwt, kind, by.algorithms)
  if (!jws.ok) throw new VerificationError(jws.reason)

  const key = await by.keySource.find(jws.kid)
  if (key === undefined) throw new VerificationError('unknown_key')
  // draft-ietf-oauth-rfc8725bis §3.1: the key decides the algorithm, the token may only agree.
  if (key.algorithm !== jws.algorithm) throw new VerificationError('algorithm_not_allowed')

  const payload = parseJsonObject(await getSignedPayload(jwt as string, key))
  if (payload === undefined) throw new VerificationError('malformed')
  return { payload, kid: jws.kid }
}

/** The payload's bytes, if the signature is right. */
async function getSignedPayload(jwt: string, { algorithm, publicKey }: VerificationKey): Promise<Uint8Array> {
  try {
    return (await compactVerify(jwt, publicKey, { algorithms: [algorithm] })).payload
  } catch {
    // Without its cause: nothing that saw the token goes into an error that may be logged.
    throw new VerificationError('signature_invalid')
  }
}
