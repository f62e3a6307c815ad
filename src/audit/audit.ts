/**
 * The audit trail: who did what to what, when, from where, with what before and after. Rows are only ever added, and
 * the database chains them by hash (drizzle/0003_management_guards.sql).
 */
import { and, desc, eq, gte, lt, sql } from 'drizzle-orm'
import { auditEvents } from '../database/records.ts'
import type { Transaction } from '../database/transaction.ts'
import { newId } from '../ids.ts'
import type { RecordEvent } from '../management/change.ts'

/** Writes the event of a change in the change's own transaction: neither is ever there without the other. */
export const recordEvent: RecordEvent = async (transaction, event) => {
  const { actor, before, after } = event
  await insertEvents(transaction, [
    {
      id: newId('auditEvent'),
      organizationId: event.organizationId,
      actorClientId: actor.clientId,
      actorKeyId: actor.keyId,
      actorOrganizationId: actor.organizationId,
      action: event.action,
      targetId: event.targetId,
      clientIp: event.clientAddress,
      requestId: event.requestId,
      details: { ...(before ? { before } : {}), ...(after ? { after } : {}) },
    },
  ])
}

export type AuditEvent = {
  id: string
  organizationId: string | null
  actorClientId: string | null
  actorKeyId: string | null
  actorOrganizationId: string | null
  action: string
  targetId: string | null
  clientIp: string | null
  requestId: string | null
  details: object
}

/**
 * Adds the events to the chain, in this order; sequence, time and hashes are the trigger's to set. Harmless to repeat:
 * an event whose id is there already is left out.
 */
export async function insertEvents(
  database: Pick<Transaction, 'execute'>,
  events: readonly AuditEvent[],
): Promise<void> {
  await database.execute(sql`
    insert into audit_events (id, organization_id, actor_client_id, actor_key_id, actor_organization_id, action,
      target_id, client_ip, request_id, details)
    select e.id, e."organizationId", e."actorClientId", e."actorKeyId", e."actorOrganizationId", e.action,
      e."targetId", e."clientIp", e."requestId", e.details
    from jsonb_to_recordset(${JSON.stringify(events)}::text::jsonb) as e (id text, "organizationId" text,
      "actorClientId" text, "actorKeyId" text, "actorOrganizationId" text, action text, "targetId" text,
      "clientIp" inet, "requestId" text, details jsonb)
    on conflict (id) do nothing`)
}

export type AuditEventRow = typeof auditEvents.$inferSelect

/** The newest first. */
export function listEvents(
  transaction: Pick<Transaction, 'select'>,
  filters: {
    organizationId: string | undefined
    actorClientId: string | undefined
    action: string | undefined
    targetId: string | undefined
    /** From then on. */
    occurredAfter: Date | undefined
    /** Not at that moment any more. */
    occurredBefore: Date | undefined
    /** The event after which the page goes on, by its id. */
    after: string | undefined
    take: number
  },
): Promise<AuditEventRow[]> {
  const { organizationId, actorClientId, action, targetId, occurredAfter, occurredBefore, after } = filters
  return transaction
    .select()
    .from(auditEvents)
    .where(
      and(
        organizationId === undefined ? undefined : eq(auditEvents.organizationId, organizationId),
        actorClientId === undefined ? undefined : eq(auditEvents.actorClientId, actorClientId),
        action === undefined ? undefined : eq(auditEvents.action, action),
        targetId === undefined ? undefined : eq(auditEvents.targetId, targetId),
        occurredAfter === undefined ? undefined : gte(auditEvents.occurredAt, occurredAfter),
        occurredBefore === undefined ? undefined : lt(auditEvents.occurredAt, occurredBefore),
        after === undefined
          ? undefined
          : lt(
              auditEvents.sequence,
              sql`(select seen.sequence from ${auditEvents} as seen where seen.id = ${after})`,
            ),
      ),
    )
    .orderBy(desc(auditEvents.sequence))
    .limit(filters.take)
}
