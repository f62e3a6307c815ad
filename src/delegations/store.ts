/** The SQL of delegations. */
import { and, eq, sql } from 'drizzle-orm'
import type { Database } from '../database/database.ts'
import type { ReadOptions } from '../database/policy-cache.ts'
import { delegations, type Environment, organizations } from '../database/schema.ts'

export type DelegationStore = ReturnType<typeof createDelegationStore>
/** A delegation and the organization that gives it. */
export type DelegationRows = NonNullable<Awaited<ReturnType<DelegationStore['find']>>>
export type DelegationParties = { partnerId: string; organizationId: string; environment: Environment }

export function createDelegationStore(database: Database) {
  const delegation = () =>
    database
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

  const find = delegation().prepare('delegation')
  const findSettled = delegation().for('share').prepare('delegation_settled')

  return {
    async find(parties: DelegationParties, { settle }: ReadOptions) {
      const [row] = await (settle ? findSettled : find).execute(parties)
      return row
    },
  }
}
