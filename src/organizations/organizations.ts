/** Organizations: the tenants, over the management API. */
import * as v from 'valibot'
import { ORGANIZATION_STATUSES } from '../database/schema.ts'
import { ApiError, notFound } from '../errors.ts'
import { newId } from '../ids.ts'
import { insufficientScope } from '../management/authenticate.ts'
import { change, changesTo, differences, list, type Operation, read } from '../management/operation.ts'
import { displayName, id, isoOf, timestamp } from '../management/wire.ts'
import { createOrganizationStore, type OrganizationRow } from './store.ts'

const status = () => v.picklist(ORGANIZATION_STATUSES, `must be one of ${ORGANIZATION_STATUSES.join(', ')}`)

export const Organization = v.pipe(
  v.strictObject({
    id: id('organization'),
    name: v.string(),
    platform: v.pipe(
      v.boolean(),
      v.description('Whether it operates this service: it acts on every tenant.'),
    ),
    status: status(),
    created_at: timestamp(),
  }),
  v.title('Organization'),
)

const toWire = (row: OrganizationRow) => ({
  id: row.id,
  name: row.name,
  platform: row.platform,
  status: row.status,
  created_at: isoOf(row.createdAt),
})

const tag = 'Organizations'

export const organizationOperations: readonly Operation[] = [
  change({
    id: 'createOrganization',
    method: 'POST',
    path: '/v2/organizations',
    tag,
    summary: 'Create an organization',
    description: 'A tenant, with nothing in it yet. For the platform only.',
    scope: 'signet:organizations:write',
    isPlatformOnly: true,
    resource: Organization,
    status: 201,
    body: v.strictObject({ name: displayName() }),
    async change({ transaction, body }) {
      const row = await createOrganizationStore(transaction).insert({
        id: newId('organization'),
        name: body.name,
      })
      return {
        resource: toWire(row),
        location: `/v2/organizations/${row.id}`,
        change: {
          organizationId: row.id,
          action: 'organization.create',
          targetId: row.id,
          after: { name: row.name },
        },
      }
    },
  }),
  list({
    id: 'listOrganizations',
    path: '/v2/organizations',
    tag,
    summary: 'List organizations',
    description: 'The platform sees all of them, any other organization itself.',
    scope: 'signet:organizations:read',
    resource: Organization,
    query: v.strictObject({ status: v.optional(status()) }),
    async list({ transaction, actor, query, take, after }) {
      const only = actor.isPlatform ? undefined : actor.organizationId
      const rows = await createOrganizationStore(transaction).list({
        only,
        status: query.status,
        take,
        after,
      })
      return rows.map(toWire)
    },
    positionOf: (organization) => organization.id,
  }),
  read({
    id: 'getOrganization',
    path: '/v2/organizations/{organization_id}',
    tag,
    summary: 'Read an organization',
    scope: 'signet:organizations:read',
    resource: Organization,
    async read({ transaction, parameters }) {
      const row = await createOrganizationStore(transaction).find(parameters.organization_id ?? '')
      if (!row) throw notFound()
      return toWire(row)
    },
  }),
  change({
    id: 'updateOrganization',
    method: 'PATCH',
    path: '/v2/organizations/{organization_id}',
    tag,
    summary: 'Rename, suspend or reactivate an organization',
    description:
      'While it is suspended, nothing of its own, and nothing for it, is minted. What was minted until then, by it as a ' +
      'partner too, is revoked, and stays so when it is reactivated. ' +
      'Only the platform changes `status`; its own it cannot.',
    scope: 'signet:organizations:write',
    revokes: true,
    errors: ['conflict'],
    resource: Organization,
    body: v.strictObject({ name: v.optional(displayName()), status: v.optional(status()) }),
    async change({ transaction, actor, parameters, body }) {
      const store = createOrganizationStore(transaction)
      const row = await store.findForUpdate(parameters.organization_id ?? '')
      if (!row) throw notFound()
      if (body.status !== undefined && !actor.isPlatform)
        throw insufficientScope(
          'signet:organizations:write',
          'Only the platform organization may change status.',
        )
      if (row.platform && body.status === 'suspended')
        throw new ApiError('conflict', 'The platform organization cannot be suspended.')
      const changes = changesTo(row, {
        ...(body.name === undefined ? {} : { name: body.name }),
        ...(body.status === undefined ? {} : { status: body.status }),
      })
      const updated = Object.keys(changes).length > 0 ? await store.update(row.id, changes) : row
      return {
        resource: toWire(updated),
        change: {
          organizationId: row.id,
          action: 'organization.update',
          targetId: row.id,
          ...differences(toWire(row), toWire(updated)),
        },
      }
    },
  }),
]
