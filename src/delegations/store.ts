/** The SQL of delegations. */
import { and, desc, eq, lt, or, sql } from 'drizzle-orm'
import { type Database, exactlyOne } from '../database/database.ts'
import type { ReadOptions } from '../database/policy-cache.ts'
import { delegations, type Environment, organizations } from '../database/schema.ts'
import { createCheck } from '../database/sound.ts'
import type { Transaction } from '../database/transaction.ts'

export type DelegationStore = ReturnType<typeof createDelegationStore>
/** A delegation and the organization that gives it. */
export type DelegationRows = NonNullable<Awaited<ReturnType<DelegationStore['find']>>>
export type DelegationParties = { partnerId: string; organizationId: string; environment: Environment }

const checkDelegation = createCheck(delegations, { name: 'delegation', id: 'id' })
const checkOrganization = createCheck(organizations, { name: 'organization', id: 'id' })

/**
 * What the exchange reads. Reads that wait for whoever is changing the rows run on `settling`, so that others need not
 * wait for them.
 */
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
          // One at most, by delegations_in_force; spelled as that index has it, so that the planner may use it.
          sql`${delegations.status} <> 'revoked'`,
        ),
      )

  const find = delegation(database).prepare('delegation')
  const findSettled = delegation(settling).for('share').prepare('delegation_settled')

  return {
    /** The one in force between the parties, whatever its status; revoked ones are history. */
    async find(parties: DelegationParties, { settle }: ReadOptions) {
      const [row] = await (settle ? findSettled : find).execute(parties)
      if (row) {
        checkDelegation(row.delegation)
        checkOrganization(row.organization)
      }
      return row
    },
  }
}

export type DelegationRow = typeof delegations.$inferSelect
export type DelegationChanges = Partial<Pick<DelegationRow, 'scopes' | 'maxExpirySeconds' | 'status'>>
export type DelegationFilters = {
  organizationId: string | undefined
  partnerId: string | undefined
  environment: Environment | undefined
  status: DelegationRow['status'] | undefined
}

/** What the management API reads and writes, in a transaction of whoever asks. */
export function createManagedDelegations(transaction: Transaction) {
  const select = () => transaction.select().from(delegations)
  return {
    async find(id: string): Promise<DelegationRow | undefined> {
      const [row] = await select().where(eq(delegations.id, id))
      return row
    },
    /** Keeps others from changing it until the transaction ends. */
    async findForUpdate(id: string): Promise<DelegationRow | undefined> {
      const [row] = await select().where(eq(delegations.id, id)).for('update')
      return row
    },
    /** The newest first; `party`: only those that this organization gives or holds. */
    list(
      options: DelegationFilters & { party: string | undefined; after: string | undefined; take: number },
    ): Promise<DelegationRow[]> {
      const { party, organizationId, partnerId, environment, status, after, take } = options
      const given = (column: Parameters<typeof eq>[0], value: string | undefined) =>
        value === undefined ? undefined : eq(column, value)
      return select()
        .where(
          and(
            party === undefined
              ? undefined
              : or(eq(delegations.organizationId, party), eq(delegations.partnerId, party)),
            given(delegations.organizationId, organizationId),
            given(delegations.partnerId, partnerId),
            given(delegations.environment, environment),
            given(delegations.status, status),
            after === undefined ? undefined : lt(delegations.id, after),
          ),
        )
        .orderBy(desc(delegations.id))
        .limit(take)
    },
    async insert(row: typeof delegations.$inferInsert): Promise<DelegationRow> {
      return exactlyOne(await transaction.insert(delegations).values(row).returning())
    },
    async update(id: string, changes: DelegationChanges): Promise<DelegationRow> {
      return exactlyOne(
        await transaction.update(delegations).set(changes).where(eq(delegations.id, id)).returning(),
      )
    },
  }
}
