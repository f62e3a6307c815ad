/** The audit trail, over the management API. */
import * as v from 'valibot'
import { list, type Operation } from '../management/operation.ts'
import { id, isoOf, moment, timestamp } from '../management/wire.ts'
import { type AuditEventRow, listEvents } from './audit.ts'

const AuditEvent = v.pipe(
  v.strictObject({
    id: id('auditEvent'),
    sequence: v.pipe(
      v.nullable(v.pipe(v.number(), v.integer())),
      v.description(
        'Without a gap from 1, over all organizations: for the platform only, null for others, whom it would tell how ' +
          'much goes on elsewhere.',
      ),
      v.examples([4711]),
    ),
    occurred_at: timestamp(),
    organization_id: v.pipe(
      v.nullable(id('organization')),
      v.description(
        'Whose trail it belongs to; null of what nobody proved to be anybody for, and of what the service did by itself.',
      ),
    ),
    actor: v.nullable(
      v.strictObject({
        client_id: v.nullable(id('client')),
        key_id: v.nullable(id('key')),
        organization_id: v.nullable(id('organization')),
      }),
    ),
    action: v.string(),
    target_id: v.nullable(v.string()),
    client_ip: v.nullable(v.string()),
    request_id: v.nullable(v.string()),
    details: v.pipe(
      v.record(v.string(), v.unknown()),
      v.description(
        'Of a change, the members that differ, `before` and `after`. Of refusals (`request.refused`, ' +
          '`token.refused`), `operation`, `code`, how many they were (`count`), and when they began and ended ' +
          '(`first_at`, `last_at`): address and request are those of the first. Where they were too many to be told ' +
          'apart, `operation` is null.',
      ),
    ),
    hash: v.pipe(v.string(), v.description('SHA-256 over the event and the hash of the one before, in hex.')),
  }),
  v.title('Audit event'),
)

const toWire = (row: AuditEventRow, isForPlatform: boolean) => ({
  id: row.id,
  sequence: isForPlatform ? row.sequence : null,
  occurred_at: isoOf(row.occurredAt),
  organization_id: row.organizationId,
  actor:
    row.actorClientId === null && row.actorOrganizationId === null
      ? null
      : {
          client_id: row.actorClientId,
          key_id: row.actorKeyId,
          organization_id: row.actorOrganizationId,
        },
  action: row.action,
  target_id: row.targetId,
  client_ip: row.clientIp,
  request_id: row.requestId,
  details: row.details,
  hash: Buffer.from(row.hash).toString('hex'),
})

export const auditOperations: readonly Operation[] = [
  list({
    id: 'listAuditEvents',
    path: '/v2/audit-events',
    tag: 'Audit',
    summary: 'List audit events',
    description:
      'Who did what to what, when and from where: every change, and what was refused. An organization sees its own ' +
      'trail, the platform all.',
    scope: 'signet:audit:read',
    resource: AuditEvent,
    query: v.strictObject({
      organization_id: v.optional(id('organization')),
      actor_client_id: v.optional(id('client')),
      action: v.optional(
        v.pipe(v.string(), v.regex(/^[a-z_]{1,40}\.[a-z_]{1,40}$/, 'must look like organization.create')),
      ),
      target_id: v.optional(v.pipe(v.string(), v.regex(/^[\w-]{1,64}$/, 'must be the id of a resource'))),
      occurred_after: v.optional(v.pipe(moment(), v.description('Events of then or later.'))),
      occurred_before: v.optional(v.pipe(moment(), v.description('Earlier events.'))),
    }),
    async list({ transaction, actor, query, take, after }) {
      const own = actor.isPlatform ? undefined : actor.organizationId
      if (own !== undefined && query.organization_id !== undefined && query.organization_id !== own) return []
      const rows = await listEvents(transaction, {
        organizationId: query.organization_id ?? own,
        actorClientId: query.actor_client_id,
        action: query.action,
        targetId: query.target_id,
        occurredAfter: query.occurred_after,
        occurredBefore: query.occurred_before,
        after,
        take,
      })
      return rows.map((row) => toWire(row, actor.isPlatform))
    },
    positionOf: (event) => event.id,
  }),
]
