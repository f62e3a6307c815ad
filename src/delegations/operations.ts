/** Delegations, over the management API. */
import { brokenConstraint } from '../database/transaction.ts'
import { ApiError, brokenRule, notFound } from '../errors.ts'
import { newId } from '../ids.ts'
import { insufficientScope } from '../management/authenticate.ts'
import {
  type Actor,
  type AuditedChange,
  change,
  changesTo,
  differences,
  list,
  type ManagementRequest,
  type Operation,
  read,
} from '../management/operation.ts'
import { isoOf } from '../management/wire.ts'
import {
  Delegation,
  DelegationQuery,
  DelegationUpdate,
  NewDelegation,
  roleIn,
  STEPS,
  type Step,
} from './rules.ts'
import { createManagedDelegations, type DelegationRow } from './store.ts'

const toWire = (row: DelegationRow) => ({
  id: row.id,
  organization_id: row.organizationId,
  partner_id: row.partnerId,
  environment: row.environment,
  scopes: row.scopes,
  max_expiry_seconds: row.maxExpirySeconds,
  status: row.status,
  created_at: isoOf(row.createdAt),
})

const conflict = (detail: string) => new ApiError('conflict', detail)
const atMember = (pointer: string, detail: string) => brokenRule('body', { pointer, detail })

/** In the trail of the organization that delegates; what its partner does, in the partner's, the only one it may write. */
const audited = (
  actor: Actor,
  row: DelegationRow,
  verb: 'create' | 'update' | Step,
  states: Pick<AuditedChange, 'before' | 'after'>,
): AuditedChange => ({
  organizationId: roleIn(actor, row) === 'holder' ? actor.organizationId : row.organizationId,
  action: `delegation.${verb}`,
  targetId: row.id,
  ...states,
})

/** The row, locked. Throws ApiError `not_found`, and `insufficient_scope` where it is the giver's to change. */
async function getForUpdate(
  {
    transaction,
    actor,
    parameters,
  }: Pick<ManagementRequest<never, never>, 'transaction' | 'actor' | 'parameters'>,
  { isForHolder }: { isForHolder: boolean },
): Promise<DelegationRow> {
  const row = await createManagedDelegations(transaction).findForUpdate(parameters.delegation_id ?? '')
  const role = row && roleIn(actor, row)
  if (!row || !role) throw notFound()
  // Not 404: a partner sees what it holds.
  if (role === 'holder' && !isForHolder)
    throw insufficientScope(
      'signet:delegations:write',
      'Only the organization that delegates, or the platform, may do this.',
    )
  return row
}

const tag = 'Delegations'
const PATH = '/v2/delegations/{delegation_id}'

/** `POST /v2/delegations/{delegation_id}/{step}`. */
const step = (name: Step, summary: string, description: string): Operation =>
  change({
    id: `${name}Delegation`,
    method: 'POST',
    path: `${PATH}/${name}`,
    tag,
    summary,
    description,
    scope: 'signet:delegations:write',
    isBodyOptional: true,
    revokes: name === 'pause' || name === 'revoke',
    resource: Delegation,
    async change(request) {
      const { from, to, isForHolder } = STEPS[name]
      const row = await getForUpdate(request, { isForHolder })
      if (!from.includes(row.status))
        throw conflict(`The delegation is ${row.status}; only one that is ${from.join(' or ')} allows this.`)
      const store = createManagedDelegations(request.transaction)
      const updated = row.status === to ? row : await store.update(row.id, { status: to })
      const states = differences(toWire(row), toWire(updated))
      return { resource: toWire(updated), change: audited(request.actor, row, name, states) }
    },
  })

export const delegationOperations: readonly Operation[] = [
  change({
    id: 'createDelegation',
    method: 'POST',
    path: '/v2/delegations',
    tag,
    summary: 'Grant or request a delegation',
    description:
      'An organization that delegates (`organization_id` is its own) grants: the delegation is active at once. A ' +
      'partner (`partner_id` is its own) requests: it is pending until the organization accepts it. Two parties ' +
      'have one delegation in force per environment.',
    scope: 'signet:delegations:write',
    errors: ['not_found'],
    resource: Delegation,
    status: 201,
    body: NewDelegation,
    async change({ transaction, actor, body }) {
      const parties = { organizationId: body.organization_id, partnerId: body.partner_id }
      const role = roleIn(actor, parties)
      if (!role) throw notFound()
      if (body.organization_id === body.partner_id)
        throw atMember('/partner_id', 'must be another organization than organization_id')
      const row = await createManagedDelegations(transaction)
        .insert({
          id: newId('delegation'),
          ...parties,
          environment: body.environment,
          scopes: body.scopes,
          maxExpirySeconds: body.max_expiry_seconds,
          status: role === 'giver' ? 'active' : 'pending',
        })
        .catch((error) => {
          throw refusalOf(error) ?? error
        })
      return {
        resource: toWire(row),
        location: `/v2/delegations/${row.id}`,
        change: audited(actor, row, 'create', { after: toWire(row) }),
      }
    },
  }),
  list({
    id: 'listDelegations',
    path: '/v2/delegations',
    tag,
    summary: 'List delegations',
    description: 'An organization sees those that it gives and those that it holds; the platform sees all.',
    scope: 'signet:delegations:read',
    resource: Delegation,
    query: DelegationQuery,
    async list({ transaction, actor, query, take, after }) {
      const rows = await createManagedDelegations(transaction).list({
        party: actor.isPlatform ? undefined : actor.organizationId,
        organizationId: query.organization_id,
        partnerId: query.partner_id,
        environment: query.environment,
        status: query.status,
        take,
        after,
      })
      return rows.map(toWire)
    },
    positionOf: (delegation) => delegation.id,
  }),
  read({
    id: 'getDelegation',
    path: PATH,
    tag,
    summary: 'Read a delegation',
    scope: 'signet:delegations:read',
    resource: Delegation,
    async read({ transaction, actor, parameters }) {
      const row = await createManagedDelegations(transaction).find(parameters.delegation_id ?? '')
      if (!row || !roleIn(actor, row)) throw notFound()
      return toWire(row)
    },
  }),
  change({
    id: 'updateDelegation',
    method: 'PATCH',
    path: PATH,
    tag,
    summary: 'Change the ceilings of a delegation',
    description:
      'From the next token on. For the organization that delegates, and the platform; not for the partner.',
    scope: 'signet:delegations:write',
    resource: Delegation,
    body: DelegationUpdate,
    async change(request) {
      const { transaction, actor, body } = request
      const row = await getForUpdate(request, { isForHolder: false })
      if (row.status === 'revoked') throw conflict('The delegation is revoked.')
      const changes = changesTo(row, {
        ...(body.scopes === undefined ? {} : { scopes: body.scopes }),
        ...(body.max_expiry_seconds === undefined ? {} : { maxExpirySeconds: body.max_expiry_seconds }),
      })
      const updated =
        Object.keys(changes).length > 0
          ? await createManagedDelegations(transaction).update(row.id, changes)
          : row
      return {
        resource: toWire(updated),
        change: audited(actor, row, 'update', differences(toWire(row), toWire(updated))),
      }
    },
  }),
  step('accept', 'Accept a requested delegation', 'By the organization that delegates; then it is active.'),
  step(
    'pause',
    'Pause a delegation',
    'From the moment of the answer on, nothing is minted by it, on any instance. What was minted by it until then is ' +
      'revoked, and stays so.',
  ),
  step(
    'resume',
    'Resume a paused delegation',
    'By the organization that delegates; then it is active again.',
  ),
  step(
    'revoke',
    'Revoke a delegation',
    'For good, by either party; from the moment of the answer on, nothing is minted by it, and what was is revoked. The ' +
      'parties may agree anew. Repeating it changes nothing.',
  ),
]

/** What the database had against a new delegation, for whoever asked for it. */
function refusalOf(error: unknown): ApiError | undefined {
  switch (brokenConstraint(error)) {
    case 'delegations_organization_id_organizations_id_fk':
      return atMember('/organization_id', 'must be the id of an organization')
    case 'delegations_partner_id_organizations_id_fk':
      return atMember('/partner_id', 'must be the id of an organization')
    case 'delegations_in_force':
      return conflict(
        'These parties have a delegation in that environment already; change, accept or revoke it.',
      )
    default:
      return undefined
  }
}
