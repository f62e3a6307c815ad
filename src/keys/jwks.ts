/** A client's own public keys, as a set (RFC 7517 §5), over the management API. */
import * as v from 'valibot'
import type { PublicJwk } from '../database/schema.ts'
import { ApiError, brokenRule, type MemberError, notFound } from '../errors.ts'
import { newId } from '../ids.ts'
import { change, type Operation, read } from '../management/operation.ts'
import { isPlatforms, keepAdministrators } from '../management/store.ts'
import { checkMayMakeKeys, checkRoom } from './issue.ts'
import { MAX_LIVE_KEYS } from './lifecycle.ts'
import { ASSERTION_ALGORITHMS, evaluateJwk, materialOf, thumbprint } from './public-jwk.ts'
import { Jwks, toWireJwks } from './resource.ts'
import { createKeyStore } from './store.ts'

const tag = 'Keys'
const path = '/v2/clients/{client_id}/jwks'

const text = () => v.optional(v.string())
/** What a JWK must be beyond this is public-jwk.ts's to say, and other members are ignored (RFC 7517 §4, §5). */
const JwksBody = v.looseObject({
  keys: v.pipe(
    v.array(
      v.looseObject({
        kty: v.pipe(v.string(), v.description('EC, RSA or OKP.'), v.examples(['EC'])),
        crv: v.pipe(text(), v.description('P-256, P-384 or Ed25519.'), v.examples(['P-256'])),
        x: v.pipe(text(), v.examples(['f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU'])),
        y: v.pipe(text(), v.examples(['x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0'])),
        n: v.pipe(text(), v.description('2048 bits or more; better 3072.')),
        e: text(),
        use: v.pipe(text(), v.description('`sig`.')),
        key_ops: v.pipe(v.optional(v.array(v.string())), v.description('With `verify`.')),
        alg: v.pipe(
          text(),
          v.description(
            `${ASSERTION_ALGORITHMS.join(', ')}: one that is for such a key. Without it ES256, ES384, RS256 or Ed25519.`,
          ),
          v.examples(['ES256']),
        ),
        kid: v.pipe(
          text(),
          v.description(
            '1 to 128 visible ASCII characters, unique in the set. Without it the thumbprint of RFC 7638.',
          ),
          v.examples(['2026-11']),
        ),
      }),
    ),
    v.maxLength(MAX_LIVE_KEYS, `must hold at most ${MAX_LIVE_KEYS} keys`),
  ),
})

export const jwksOperations: readonly Operation[] = [
  change({
    id: 'replaceClientJwks',
    method: 'POST',
    path,
    tag,
    summary: 'Replace the JWKS of a client',
    description:
      'The public keys with which its assertions (`private_key_jwt`, RFC 7523) are verified. The set takes the place of ' +
      'the one that there was: a key that is no longer in it is revoked as `superseded`, from the answer on; one that ' +
      'stays (the same key, `kid` and `alg`) is what it was; each new one becomes a key of the client, like those that ' +
      'have a secret, and counts with them. An empty set takes all away. A key that was revoked as `compromised` does ' +
      'not come back. Keys are added under the same conditions as others are made.',
    scope: 'signet:keys:write',
    errors: ['client_pending_approval', 'client_suspended'],
    resource: Jwks,
    body: JwksBody,
    async change({ transaction, actor, parameters, body }) {
      const store = createKeyStore(transaction)
      const client = await store.lockClient(parameters.client_id ?? '')
      if (!client) throw notFound()
      const asked = evaluateJwks(body.keys)
      const present = await store.listPublic(client.id)
      const removed = present.filter(({ publicJwk }) => !asked.some((each) => isSame(each, publicJwk)))
      const added = asked
        .filter((each) => !present.some(({ publicJwk }) => isSame(each, publicJwk)))
        .map((publicJwk) => ({ id: newId('key'), publicJwk }))

      for (const { id } of removed)
        await store.revoke(id, 'superseded', { revokes: true, setsReason: true, revokesTokens: false })
      if (added.length > 0) {
        checkMayMakeKeys(client, actor)
        await checkRoom(store, client.id, added.length)
      }
      for (const { id, publicJwk } of added) {
        if (await store.isCompromised(client.id, materialOf(publicJwk))) throw compromised()
        await store.insert({ id, clientId: client.id, publicJwk, createdBy: actor.clientId })
      }
      if (removed.length > 0 && isPlatforms(actor, client)) await keepAdministrators(transaction)
      return {
        resource: toWireJwks(await store.listPublic(client.id)),
        change: {
          organizationId: client.organizationId,
          action: 'client.jwks',
          targetId: client.id,
          before: removed.length > 0 ? { removed: removed.map(named) } : {},
          after: added.length > 0 ? { added: added.map(named) } : {},
        },
      }
    },
  }),
  read({
    id: 'getClientJwks',
    path,
    tag,
    summary: 'Read the JWKS of a client',
    description:
      'The public keys that count, the oldest first; `key_id` is what they are called among all keys.',
    scope: 'signet:keys:read',
    resource: Jwks,
    async read({ transaction, parameters }) {
      const store = createKeyStore(transaction)
      const clientId = parameters.client_id ?? ''
      if (!(await store.hasClient(clientId))) throw notFound()
      return toWireJwks(await store.listPublic(clientId))
    },
  }),
]

/** Throws ApiError `invalid_request` with a pointer to what is wrong with each key. */
function evaluateJwks(entries: readonly Readonly<Record<string, unknown>>[]): PublicJwk[] {
  const errors: MemberError[] = []
  const keys: PublicJwk[] = []
  for (const [index, entry] of entries.entries()) {
    const pointer = `/keys/${index}`
    const verdict = evaluateJwk(entry)
    if (!verdict.ok) {
      const { member, rule } = verdict
      errors.push({ pointer: member === undefined ? pointer : `${pointer}/${member}`, detail: rule })
      continue
    }
    const { jwk } = verdict
    if (keys.some(({ kid }) => kid === jwk.kid))
      errors.push({ pointer: `${pointer}/kid`, detail: 'must be unique in the set' })
    // One key, one algorithm (draft-ietf-oauth-rfc8725bis §3.1), under one name.
    else if (keys.some((other) => isSameMaterial(other, jwk)))
      errors.push({ pointer, detail: 'must not be a key that is in the set already' })
    keys.push(jwk)
  }
  if (errors.length > 0) throw brokenRule('body', ...errors)
  return keys
}

const isSameMaterial = (a: PublicJwk, b: PublicJwk) => thumbprint(materialOf(a)) === thumbprint(materialOf(b))
const isSame = (a: PublicJwk, b: PublicJwk) => a.kid === b.kid && a.alg === b.alg && isSameMaterial(a, b)

const named = ({ id, publicJwk }: { id: string; publicJwk: PublicJwk }) => ({
  key_id: id,
  kid: publicJwk.kid,
})

const compromised = () =>
  new ApiError('conflict', 'A key of the set has been revoked as compromised, which is for good.')
