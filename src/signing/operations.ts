/** Signing keys, over the management API: for the platform only. */
import * as v from 'valibot'
import { SIGNING_ALGORITHMS, type SigningAlgorithm } from '../config.ts'
import { ApiError, notFound } from '../errors.ts'
import { change, differences, list, type Operation } from '../management/operation.ts'
import { displayName, environment, isoOf, timestamp } from '../management/wire.ts'
import { publicMembers } from './jwks.ts'
import { rotate, timelineOf } from './rotate.ts'
import {
  activeSigningKey,
  planRevocation,
  SIGNING_KEY_STATUSES,
  type SigningKeyStatus,
  signingKeyStatus,
} from './rotation.ts'
import type { Sealing } from './sealing.ts'
import type { Signer } from './signer.ts'
import { makeSigningKey } from './signing-key.ts'
import { createManagedSigningKeys, type SigningKeyRow } from './store.ts'

const status = () => v.picklist(SIGNING_KEY_STATUSES, `must be one of ${SIGNING_KEY_STATUSES.join(', ')}`)

export const SigningKey = v.pipe(
  v.strictObject({
    kid: v.pipe(v.string(), v.description('Its RFC 7638 thumbprint, as in the header of tokens.')),
    environment: environment(),
    alg: v.picklist(SIGNING_ALGORITHMS),
    status: v.pipe(
      status(),
      v.description(
        'published: in the key set, not signing yet · active: the one that signs · retiring: in the key set until its ' +
          'last token has expired · removed and revoked: no longer there.',
      ),
    ),
    public_jwk: v.strictObject({
      kty: v.string(),
      crv: v.optional(v.string()),
      n: v.optional(v.string()),
      e: v.optional(v.string()),
      x: v.optional(v.string()),
      y: v.optional(v.string()),
    }),
    published_at: timestamp(),
    activates_at: timestamp(),
    retires_at: v.nullable(timestamp()),
    removes_at: v.nullable(timestamp()),
    revoked_at: v.nullable(timestamp()),
    created_at: timestamp(),
  }),
  v.title('SigningKey'),
)

const toWire = (row: SigningKeyRow, current: SigningKeyStatus) => ({
  kid: row.kid,
  environment: row.environment,
  alg: row.alg,
  status: current,
  // What is stored as public is filtered once more, as for the key set.
  public_jwk: publicMembers(row.publicJwk),
  ...timelineOf(row),
  created_at: isoOf(row.createdAt),
})

/** Each with its status; `current` are all keys that still matter in the environments of `rows`. */
function withStatus(rows: readonly SigningKeyRow[], current: readonly SigningKeyRow[], now: Date) {
  const ofEnvironment = Map.groupBy(current, (key) => key.environment)
  return rows.map((row) => {
    const active = activeSigningKey(ofEnvironment.get(row.environment) ?? [], now.getTime())
    return toWire(row, signingKeyStatus(row, active?.kid, now.getTime()))
  })
}

const isOver = (current: SigningKeyStatus) => current === 'removed' || current === 'revoked'

const tag = 'Signing keys'

export function createSigningKeyOperations(options: {
  sealing: Sealing
  alg: SigningAlgorithm
  signer: Pick<Signer, 'reload'>
}): readonly Operation[] {
  const { sealing, alg, signer } = options
  const prepare = () => makeSigningKey(alg, sealing)
  const afterwards = async () => void (await signer.reload())

  return [
    list({
      id: 'listSigningKeys',
      path: '/v2/signing-keys',
      tag,
      summary: 'List signing keys',
      description: 'Of both environments, removed and revoked ones too. For the platform only.',
      scope: 'signet:signing_keys:read',
      isPlatformOnly: true,
      resource: SigningKey,
      query: v.strictObject({ environment: v.optional(environment()), status: v.optional(status()) }),
      async list({ transaction, query, now, take, after }) {
        const store = createManagedSigningKeys(transaction)
        const current = await store.findCurrent(query.environment)
        // Few at any time, and only together do they tell which one signs.
        const kids = withStatus(current, current, now)
          .filter((key) => key.status === query.status)
          .map(({ kid }) => kid)
        const rows = await store.list({
          environment: query.environment,
          kids: query.status === undefined || isOver(query.status) ? query.status : kids,
          now,
          after,
          take,
        })
        return withStatus(rows, current, now)
      },
      positionOf: ({ kid }) => kid,
    }),
    change({
      id: 'rotateSigningKey',
      method: 'POST',
      path: '/v2/signing-keys/rotate',
      tag,
      summary: 'Rotate the signing key of an environment',
      description:
        'Publishes a new key at once. It signs from `activates_at` on, when every verifier has had time to fetch it; ' +
        'from then on the present key only verifies, until the last token that it signed has expired. For the ' +
        'platform only.',
      scope: 'signet:signing_keys:write',
      isPlatformOnly: true,
      resource: SigningKey,
      status: 201,
      body: v.strictObject({ environment: environment() }),
      prepare,
      async change({ transaction, actor, body, prepared }) {
        const rotation = await rotate(transaction, body.environment, prepared)
        if (!rotation.ok)
          throw new ApiError(
            'conflict',
            `The next signing key is published already; it activates at ${isoOf(rotation.nextActivatesAt)}.`,
          )
        const [resource = {}] = withStatus([rotation.key], [rotation.key], rotation.now)
        return {
          resource,
          change: { organizationId: actor.organizationId, ...rotation.change },
          afterwards,
        }
      },
    }),
    change({
      id: 'revokeSigningKey',
      method: 'POST',
      path: '/v2/signing-keys/{kid}/revoke',
      tag,
      summary: 'Revoke a signing key that was stolen, or may have been',
      description:
        'From the moment of the answer on, no instance signs with it, and another key does. It leaves the key set ' +
        'within 30 seconds on every instance; its tokens no longer verify once a verifier has the new set. Where it ' +
        'was the active production key, the access token of this very request is among them. Repeating it changes ' +
        'nothing. For the platform only.',
      scope: 'signet:signing_keys:write',
      revokes: true,
      isPlatformOnly: true,
      resource: SigningKey,
      body: v.strictObject({
        reason: v.optional(
          v.pipe(displayName(), v.description('For the audit trail.'), v.examples(['Found in a log'])),
        ),
      }),
      isBodyOptional: true,
      prepare,
      async change({ transaction, actor, parameters, body, prepared }) {
        const store = createManagedSigningKeys(transaction)
        const now = await store.lock()
        const before = await store.find(parameters.kid ?? '')
        if (!before) throw notFound()
        const others = (await store.findCurrent(before.environment)).filter(({ kid }) => kid !== before.kid)
        const plan = planRevocation([before, ...others], before.kid, now.getTime())
        let after = before
        let successor: SigningKeyRow | undefined
        for (const { kid, changes } of plan.updates) {
          const row = await store.update(kid, changes)
          if (kid === before.kid) after = row
          else successor = row
        }
        if (plan.insert)
          successor = await store.insert({ ...prepared, environment: before.environment, ...plan.insert })
        const states = differences(timelineOf(before), timelineOf(after))
        const [resource = {}] = withStatus([after], [], now)
        return {
          resource,
          change: {
            organizationId: actor.organizationId,
            action: 'signing_key.revoke',
            targetId: before.kid,
            before: states.before,
            after: {
              ...states.after,
              ...(body.reason === undefined ? {} : { reason: body.reason }),
              ...(successor ? { successor: { kid: successor.kid, ...timelineOf(successor) } } : {}),
            },
          },
          afterwards,
        }
      },
    }),
  ]
}
