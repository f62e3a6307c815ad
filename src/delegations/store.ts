/** The SQL of delegations. */
import { and, eq, sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'
import type { ReadOptions } from '../database/policy-cache.ts'
import { delegations, type Environment, organizations } from '../database/schema.ts'

export type DelegationStore = ReturnType<typeof createDelegationStore>
/** A delegation and the organization that gives it. */
export type DelegationRows = NonNullable<Awaited<ReturnType<DelegationStore['find']>>>
export type DelegationParties = { partnerId: string; organizationId: string; environment: Environment }

/** Reads that wait for whoever is changing the rows run on `settling`, so that others need not wait for them. */
export function createDelegationStore(database: Database, settling: Database) {
  const delegation = (on: Database) =>
    on
      .select({ delegation: delegations, organization: organizations })
      .from(delegations)
      .innerJoin(organizations, eq(organizations.id, delegations.organizationId))
      .where(
        and(
          eq(delegations.partnerId, sql.placeholder('partnerId')),
          eq(delegations.organizationId, sql.placeholder('organizationId')),
          eq(delegations.environment, sql.placeholder('environment')),
        ),
      )

  const find = delegation(database).prepare('delegation')
  const findSettled = delegation(settling).for('share').prepare('delegation_settled')

  return {
    async find(parties: DelegationParties, { settle }: ReadOptions) {
      const [row] = await (settle ? findSettled : find).execute(parties)
      return row
    },
  }
}
