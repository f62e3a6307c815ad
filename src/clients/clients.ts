/** Clients, over the management API: creation, change, approval and the rest of their life. */
import * as v from 'valibot'
import { ApiError, brokenRule, notFound } from '../errors.ts'
import { newId } from '../ids.ts'
import { invalidToken } from '../management/authenticate.ts'
import {
  type Changed,
  change,
  changesTo,
  differences,
  list,
  type Operation,
  read,
} from '../management/operation.ts'
import { isPlatforms, keepAdministrators } from '../management/store.ts'
import { environment, isoOf } from '../management/wire.ts'
import { compileNetworks } from '../network/address.ts'
import { Client, ClientUpdate, checkPolicy, clientKind, clientStatus, NewClient, widens } from './rules.ts'
import { changesOfStep, type Step } from './steps.ts'
import { type ClientChanges, type ClientRow, createClientStore } from './store.ts'

/** Of one organization, unless the platform makes them. */
const MAX_CLIENTS = 1000

const toWire = (row: ClientRow) => ({
  id: row.id,
  organization_id: row.organizationId,
  name: row.name,
  environment: row.environment,
  kind: row.kind,
  scopes: row.scopes,
  audience: row.audience,
  max_expiry_seconds: row.maxExpirySeconds,
  rate_limit_per_minute: row.rateLimitPerMinute,
  allowed_cidrs: row.allowedCidrs,
  allowed_origins: row.allowedOrigins,
  status: row.status,
  created_at: isoOf(row.createdAt),
  created_by: row.createdBy,
  requested_by: row.requestedBy,
  suspended_by_platform: row.suspendedByPlatform,
  version: String(row.version),
  approved_at: isoOf(row.approvedAt),
  approved_by: row.approvedBy,
})

type Store = ReturnType<typeof createClientStore>
type Request = Parameters<Extract<Operation['does'], { kind: 'change' }>['change']>[0]

async function getForUpdate(
  store: Store,
  { parameters, actor }: Pick<Request, 'parameters' | 'actor'>,
): Promise<ClientRow> {
  const row = await store.findForUpdate(parameters.client_id ?? '')
  if (!row) throw notFound()
  // Whoever changes themselves may have been stopped while they waited for the row; what they write to it must not hide it.
  if (row.id === actor.clientId && row.status !== 'active') throw invalidToken()
  return row
}

const tag = 'Clients'

export function createClientOperations(options: {
  issuer: string
  /** Whether an approval takes another client than those that asked for it. */
  fourEyes: boolean
}): readonly Operation[] {
  const { issuer, fourEyes } = options

  /** Writes the changes and says what they were. */
  async function update(
    { transaction, actor }: Pick<Request, 'transaction' | 'actor'>,
    action: string,
    row: ClientRow,
    asked: ClientChanges,
  ): Promise<Changed> {
    const changes = changesTo<object, ClientChanges>(row, asked)
    const store = createClientStore(transaction)
    const updated = Object.keys(changes).length > 0 ? await store.update(row.id, changes) : row
    if (changes.status === 'revoked') await store.revokeKeys(row.id)
    if (isPlatforms(actor, row)) {
      // Networks that shut out a client cannot be told from others; so this one must not be the only one to undo it.
      const isShutOut = changes.allowedCidrs !== undefined && actor.clientId !== row.id
      await keepAdministrators(transaction, isShutOut ? row.id : undefined)
    }
    return {
      resource: toWire(updated),
      change: {
        organizationId: row.organizationId,
        action,
        targetId: row.id,
        ...differences(toWire(row), toWire(updated)),
        // What was approved, beside that it was.
        ...(action === 'client.approve' ? { after: toWire(updated) } : {}),
      },
    }
  }

  /** `POST /v2/clients/{client_id}/{step}`. */
  const step = (
    name: Step,
    about: Pick<Operation, 'summary' | 'description'> & {
      scope?: Operation['scope']
      isPlatformOnly?: boolean
    },
  ): Operation =>
    change({
      id: `${name}Client`,
      method: 'POST',
      path: `/v2/clients/{client_id}/${name}`,
      tag,
      scope: 'signet:clients:write',
      ...about,
      isBodyOptional: true,
      revokes: name === 'suspend' || name === 'revoke',
      resource: Client,
      body: name === 'approve' ? v.strictObject({ version: v.optional(v.string()) }) : v.strictObject({}),
      async change(request) {
        const row = await getForUpdate(createClientStore(request.transaction), request)
        const { actor, now, body } = request
        const seenVersion = 'version' in body ? body.version : undefined
        const changes = changesOfStep(name, row, { actor, now, seenVersion, fourEyes })
        return update(request, `client.${name}`, row, changes)
      },
    })

  return [
    change({
      id: 'createClient',
      method: 'POST',
      path: '/v2/organizations/{organization_id}/clients',
      tag,
      summary: 'Create a client',
      description:
        'A sandbox client is active at once. A production client waits for its approval by the platform, gets its ' +
        'first key after that, and needs a non-empty `allowed_cidrs` before it.',
      scope: 'signet:clients:write',
      resource: Client,
      status: 201,
      body: NewClient,
      async change({ transaction, actor, parameters, body }) {
        const store = createClientStore(transaction)
        const organizationId = parameters.organization_id ?? ''
        if (!(await store.lockOrganization(organizationId))) throw notFound()
        if (!actor.isPlatform && (await store.countUnrevoked(organizationId)) >= MAX_CLIENTS)
          throw new ApiError(
            'conflict',
            `An organization has at most ${MAX_CLIENTS} clients that are not revoked.`,
          )
        const audience = body.audience ?? null
        checkPolicy({ ...body, audience }, issuer)
        const row = await store.insert({
          id: newId('client'),
          organizationId,
          name: body.name,
          environment: body.environment,
          kind: body.kind,
          ...columnsOf(body),
          scopes: body.scopes,
          status: body.environment === 'production' ? 'pending_approval' : 'active',
          createdBy: actor.clientId,
          requestedBy: body.environment === 'production' ? [actor.clientId] : [],
        })
        const resource = toWire(row)
        return {
          resource,
          location: `/v2/clients/${row.id}`,
          change: { organizationId, action: 'client.create', targetId: row.id, after: resource },
        }
      },
    }),
    list({
      id: 'listClients',
      path: '/v2/organizations/{organization_id}/clients',
      tag,
      summary: 'List the clients of an organization',
      scope: 'signet:clients:read',
      resource: Client,
      query: v.strictObject({
        status: v.optional(clientStatus()),
        environment: v.optional(environment()),
        kind: v.optional(clientKind()),
      }),
      async list({ transaction, parameters, query, take, after }) {
        const store = createClientStore(transaction)
        const organizationId = parameters.organization_id ?? ''
        if (!(await store.organizationExists(organizationId))) throw notFound()
        const { status, environment, kind } = query
        const rows = await store.list(organizationId, { status, environment, kind }, { take, after })
        return rows.map(toWire)
      },
      positionOf: (client) => client.id,
    }),
    read({
      id: 'getClient',
      path: '/v2/clients/{client_id}',
      tag,
      summary: 'Read a client',
      scope: 'signet:clients:read',
      resource: Client,
      async read({ transaction, parameters }) {
        const row = await createClientStore(transaction).find(parameters.client_id ?? '')
        if (!row) throw notFound()
        return toWire(row)
      },
    }),
    change({
      id: 'updateClient',
      method: 'PATCH',
      path: '/v2/clients/{client_id}',
      tag,
      summary: 'Change a client',
      description:
        'A production client that is given a scope, a network or an audience that was not approved goes back to ' +
        '`pending_approval`, and mints nothing until it is approved again. Narrowing takes no approval.',
      scope: 'signet:clients:write',
      resource: Client,
      body: ClientUpdate,
      async change({ transaction, actor, parameters, body, clientAddress }) {
        const row = await getForUpdate(createClientStore(transaction), { parameters, actor })
        if (row.status === 'revoked')
          throw new ApiError('conflict', 'A revoked client does not change any more.')
        const changes: ClientChanges = {
          ...(body.name === undefined ? {} : { name: body.name }),
          ...(body.scopes === undefined ? {} : { scopes: body.scopes }),
          ...columnsOf(body),
        }
        const after = { ...row, ...changes } as ClientRow
        checkPolicy(after, issuer)
        checkNetworks(row, after, actor.clientId === row.id ? clientAddress : undefined)
        return update({ transaction, actor }, 'client.update', row, {
          ...changes,
          ...approvalAfter(row, after, actor.clientId),
        })
      },
    }),
    step('approve', {
      summary: 'Approve a production client',
      description:
        'For the platform only. Needs a non-empty `allowed_cidrs`. With `version`, it is approved only as it was when it ' +
        'had that version. With FOUR_EYES, a client cannot approve what it requested itself, nor with a key that was ' +
        'made by who requested it.',
      scope: 'signet:clients:approve',
      isPlatformOnly: true,
    }),
    step('suspend', {
      summary: 'Suspend a client',
      description:
        'Its keys mint nothing until it is reactivated. Its tokens are revoked, and stay so. What the platform has ' +
        'suspended, only the platform reactivates.',
    }),
    step('reactivate', {
      summary: 'Reactivate a suspended client',
      description: 'One that was widened meanwhile waits for its approval.',
    }),
    step('revoke', {
      summary: 'Revoke a client, for good',
      description: 'With it, all its keys and tokens.',
    }),
  ]
}

/** The members of a client's policy, by the names of their columns. What is absent stays as it is. */
function columnsOf(body: Omit<v.InferOutput<typeof ClientUpdate>, 'name' | 'scopes'>): ClientChanges {
  return {
    ...(body.audience === undefined ? {} : { audience: body.audience }),
    ...(body.max_expiry_seconds === undefined ? {} : { maxExpirySeconds: body.max_expiry_seconds }),
    ...(body.rate_limit_per_minute === undefined ? {} : { rateLimitPerMinute: body.rate_limit_per_minute }),
    ...(body.allowed_cidrs === undefined ? {} : { allowedCidrs: body.allowed_cidrs }),
    ...(body.allowed_origins === undefined ? {} : { allowedOrigins: body.allowed_origins }),
  }
}

/** An approved production client keeps networks; and who is at work here does not lock itself out. */
function checkNetworks(before: ClientRow, after: ClientRow, ownAddress: string | undefined): void {
  const { allowedCidrs: networks } = after
  const mustName = before.environment === 'production' && before.approvedAt !== null
  if (mustName && (!networks || networks.length === 0))
    throw invalidNetworks('must not be empty: a production client names its networks')
  if (ownAddress !== undefined && networks && !compileNetworks(networks)(ownAddress))
    throw invalidNetworks('must hold the address that this request came from: it is the client’s own')
}

const invalidNetworks = (detail: string) => brokenRule('body', { pointer: '/allowed_cidrs', detail })

/** What a change does to the approval of a production client. */
function approvalAfter(before: ClientRow, after: ClientRow, actorId: string): ClientChanges {
  if (before.environment === 'sandbox' || !widens(before, after)) return {}
  const isApproved = before.approvedAt !== null
  return {
    // A suspended one stays so: reactivation looks whether it is approved.
    status: before.status === 'active' ? 'pending_approval' : before.status,
    approvedAt: null,
    approvedBy: null,
    requestedBy: isApproved ? [actorId] : [...new Set([...before.requestedBy, actorId])],
  }
}
