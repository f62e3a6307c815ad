/** Who may do what with a delegation, from which status to which; and what one looks like. Pure. */
import * as v from 'valibot'
import { DELEGATION_STATUSES } from '../database/schema.ts'
import type { Actor } from '../management/operation.ts'
import { isManagementScope } from '../management/scopes.ts'
import { environment, expirySeconds, id, scope, scopes, timestamp } from '../management/wire.ts'
import type { DelegationRow } from './store.ts'

type Status = DelegationRow['status']
type Parties = Pick<DelegationRow, 'organizationId' | 'partnerId'>

/**
 * What the actor is to a delegation: its giver (the organization that delegates, and the platform in its place) or its
 * holder (the partner). Undefined: a stranger, to whom it does not exist.
 */
export function roleIn(actor: Actor, { organizationId, partnerId }: Parties): 'giver' | 'holder' | undefined {
  if (actor.isPlatform || actor.organizationId === organizationId) return 'giver'
  return actor.organizationId === partnerId ? 'holder' : undefined
}

export type Step = 'accept' | 'pause' | 'resume' | 'revoke'

/** The holder may only give up what it holds, which harms nobody. */
export const STEPS: Readonly<Record<Step, { from: readonly Status[]; to: Status; isForHolder: boolean }>> = {
  accept: { from: ['pending'], to: 'active', isForHolder: false },
  pause: { from: ['active'], to: 'paused', isForHolder: false },
  resume: { from: ['paused'], to: 'active', isForHolder: false },
  // Saying it again is harmless.
  revoke: { from: DELEGATION_STATUSES, to: 'revoked', isForHolder: true },
}

/** The management API takes no token that a partner minted: such a scope could only mislead. */
const delegable = v.pipe(
  scope(),
  v.check((text) => !isManagementScope(text), 'must not be a scope of the management API'),
)
const status = () => v.picklist(DELEGATION_STATUSES, `must be one of ${DELEGATION_STATUSES.join(', ')}`)

export const Delegation = v.pipe(
  v.strictObject({
    id: id('delegation'),
    organization_id: v.pipe(id('organization'), v.description('Who delegates: tokens are minted for it.')),
    partner_id: v.pipe(id('organization'), v.description('Who may mint them.')),
    environment: environment(),
    scopes: v.pipe(
      v.array(v.string()),
      v.description('The most that a token may hold; less where the partner’s client holds less.'),
    ),
    max_expiry_seconds: v.pipe(v.number(), v.description('The longest life of a token, in seconds.')),
    status: status(),
    created_at: timestamp(),
  }),
  v.title('Delegation'),
)

export const NewDelegation = v.strictObject({
  organization_id: id('organization'),
  partner_id: id('organization'),
  environment: environment(),
  scopes: scopes(delegable),
  max_expiry_seconds: v.optional(expirySeconds(), 86_400),
})

export const DelegationUpdate = v.strictObject({
  scopes: v.optional(scopes(delegable)),
  max_expiry_seconds: v.optional(expirySeconds()),
})

export const DelegationQuery = v.strictObject({
  organization_id: v.optional(id('organization')),
  partner_id: v.optional(id('organization')),
  environment: v.optional(environment()),
  status: v.optional(status()),
})
