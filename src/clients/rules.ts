/** What a client's members must look like, and which changes widen what it may do. */
import * as v from 'valibot'
import { CLIENT_KINDS, CLIENT_STATUSES } from '../database/schema.ts'
import { brokenRule, type MemberError } from '../errors.ts'
import { isManagementScope, MANAGEMENT_SCOPES } from '../management/scopes.ts'
import {
  displayName,
  environment,
  expirySeconds,
  id,
  integer,
  scope,
  scopes,
  timestamp,
} from '../management/wire.ts'
import { canonicalNetwork, isWithin } from '../network/address.ts'
import type { ClientRow } from './store.ts'

const MAX_ENTRIES = 100

const network = v.pipe(
  v.string(),
  v.maxLength(64, 'must be at most 64 characters long'),
  v.check(
    (text) => canonicalNetwork(text) !== undefined,
    'must be an IP address or a CIDR network with no bits beyond its prefix',
  ),
  v.transform((text) => canonicalNetwork(text) ?? text),
)

/** The ASCII serialization that browsers send (RFC 6454 §6.2); http only for a page on the developer's machine. */
const origin = v.pipe(
  v.string(),
  v.maxLength(255, 'must be at most 255 characters long'),
  v.check((text) => {
    const url = URL.parse(text)
    if (!url || url.origin !== text) return false
    return url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname))
  }, 'must be an origin as browsers send it, such as https://app.example.com (http only on a loopback host)'),
)
const isLoopback = (hostname: string) => /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname)

const audience = v.pipe(
  v.string(),
  v.regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,255}$/, 'must be 1 to 255 visible ASCII characters without space'),
)

const entries = <Schema extends v.GenericSchema>(schema: Schema) =>
  v.nullable(v.pipe(v.array(schema), v.maxLength(MAX_ENTRIES, `must hold at most ${MAX_ENTRIES} entries`)))

/** What its owner may change of a client. */
const POLICY = {
  audience: v.optional(v.nullable(audience)),
  max_expiry_seconds: v.optional(expirySeconds()),
  rate_limit_per_minute: v.optional(integer(1, 1_000_000)),
  allowed_cidrs: v.optional(entries(network)),
  allowed_origins: v.optional(entries(origin)),
}

export const clientKind = () => v.picklist(CLIENT_KINDS, `must be one of ${CLIENT_KINDS.join(', ')}`)
export const clientStatus = () => v.picklist(CLIENT_STATUSES, `must be one of ${CLIENT_STATUSES.join(', ')}`)

export const NewClient = v.strictObject({
  name: displayName(),
  environment: environment(),
  kind: v.optional(clientKind(), 'organization'),
  scopes: scopes(scope()),
  ...POLICY,
})

export const ClientUpdate = v.strictObject({
  name: v.optional(displayName()),
  scopes: v.optional(scopes(scope())),
  ...POLICY,
})

export const Client = v.pipe(
  v.strictObject({
    id: id('client'),
    organization_id: id('organization'),
    name: v.string(),
    environment: environment(),
    kind: clientKind(),
    scopes: v.array(v.string()),
    audience: v.pipe(v.nullable(v.string()), v.description('Null: the default of the deployment.')),
    max_expiry_seconds: v.number(),
    rate_limit_per_minute: v.number(),
    allowed_cidrs: v.pipe(
      v.nullable(v.array(v.string())),
      v.description('From where its keys may be used. Null: from anywhere; empty: from nowhere.'),
    ),
    allowed_origins: v.pipe(
      v.nullable(v.array(v.string())),
      v.description('Of the pages that may use its keys. Null or empty: none.'),
    ),
    status: clientStatus(),
    created_at: timestamp(),
    created_by: v.pipe(v.nullable(v.string()), v.description('The client that created it.')),
    requested_by: v.pipe(
      v.array(v.string()),
      v.description('The clients that asked for what is to be approved, or was approved last.'),
    ),
    suspended_by_platform: v.pipe(v.boolean(), v.description('Then only the platform reactivates it.')),
    version: v.pipe(
      v.string(),
      v.description('Another one after each change: `approve` takes it, to approve what was looked at.'),
      v.examples(['4711']),
    ),
    approved_at: v.nullable(timestamp()),
    approved_by: v.nullable(v.string()),
  }),
  v.title('Client'),
)

/** The rules that look at several members. Throws ApiError `invalid_request`. */
export function checkPolicy(
  client: Pick<ClientRow, 'environment' | 'kind' | 'scopes'> & { audience: string | null },
  issuer: string,
): void {
  const errors: MemberError[] = client.scopes.flatMap((scope, i) => {
    const rule = ruleOfManagementScope(client, scope)
    return rule === undefined ? [] : [{ pointer: `/scopes/${i}`, detail: rule }]
  })
  // The issuer is the audience of the management API: no other token may ever have it.
  if (client.audience === issuer || client.audience === `${issuer}/sandbox`)
    errors.push({ pointer: '/audience', detail: 'must not be an issuer' })
  if (errors.length > 0) throw brokenRule('body', ...errors)
}

/** Why the client cannot hold the scope, if it cannot. */
function ruleOfManagementScope(client: Pick<ClientRow, 'environment' | 'kind'>, scope: string) {
  if (!isManagementScope(scope)) return undefined
  if (!(MANAGEMENT_SCOPES as readonly string[]).includes(scope)) return 'is no scope of the management API'
  if (client.environment === 'sandbox') return 'of the management API is for production clients'
  if (client.kind === 'partner') return 'of the management API is not for partner clients'
  return undefined
}

type Reach = Pick<ClientRow, 'scopes' | 'allowedCidrs' | 'audience'>

/** Whether `after` reaches further than `before`: a scope, a network or an audience that was not approved. */
export function widens(before: Reach, after: Reach): boolean {
  const { allowedCidrs: networks } = after
  return (
    after.scopes.some((scope) => !before.scopes.includes(scope)) ||
    after.audience !== before.audience ||
    (before.allowedCidrs !== null &&
      (networks === null || networks.some((network) => !isWithin(network, before.allowedCidrs ?? []))))
  )
}
