/** Connections to PostgreSQL. drizzle on postgres.js; what each pool may do and for how long is settled here. */
import { type SQL, sql } from 'drizzle-orm'
import type { PgTable } from 'drizzle-orm/pg-core'
import { drizzle, type PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import postgres from 'postgres'
import { inTime } from '../clock.ts'
import * as records from './records.ts'
import * as policy from './schema.ts'
import { createServers, type DatabaseAddress, type Servers } from './servers.ts'
import { openWire } from './wire.ts'

const schema = { ...policy, ...records }

/** The address of the database, or what is known of its servers: pools that are given the same share that. */
export type DatabaseTarget = DatabaseAddress | Servers

export type Database = PostgresJsDatabase<typeof schema> & { $client: postgres.Sql }

export type PoolOptions = {
  max: number
  /** The server gives up a statement after this long, lock waits included. */
  statementTimeoutMilliseconds: number
  /** Further settings of the sessions, by their PostgreSQL names. */
  settings?: Record<string, string>
}

/**
 * The system's pool: marked as platform, so that row-level security shows it every tenant. Nothing that a tenant's
 * own request reads or writes may run on it, apart from the exchange, whose tenant comes from the key it proved.
 */
export const connectAsPlatform = (target: DatabaseTarget, options: PoolOptions): Database =>
  connect(target, { ...options, settings: { 'signet.platform': 'on', ...options.settings } })

/** A pool whose connections see no tenant at all, until a transaction says whose it is. */
export const connectAsNobody = (target: DatabaseTarget, options: PoolOptions): Database =>
  connect(target, options)

/** The server answers within its own limit, even if only that it was too much: past this, it is not there. */
const MARGIN_MILLISECONDS = 250

function connect(target: DatabaseTarget, options: PoolOptions): Database {
  const servers = createServers(target)
  const { username, password, database } = servers
  const poolOptions = {
    ...{ username, password, database, ssl: false, max: options.max },
    // Of a name only: the wire finds the server.
    host: 'database',
    socket: () =>
      openWire(servers, { answerMilliseconds: options.statementTimeoutMilliseconds + MARGIN_MILLISECONDS }),
    connect_timeout: 3,
    // Seconds between tries to connect: a database that is back should not be waited for (the default grows to 20 s).
    backoff: () => 0.1 + Math.random() / 5,
    // Arrays are read by drizzle; asking the catalogue for their types would cost each connection a round trip.
    fetch_types: false,
    onnotice: () => {},
    connection: {
      application_name: 'signet',
      TimeZone: 'UTC',
      statement_timeout: options.statementTimeoutMilliseconds,
      idle_in_transaction_session_timeout: 10_000,
      // Between two statements, others' commits must become visible: the admission depends on it.
      default_transaction_isolation: 'read committed' as const,
      // Promise 2: a token leaves only after its row is durable, whatever the server's own default says.
      synchronous_commit: 'on',
      ...options.settings,
    },
  }
  // `socket` is documented, and missing in the types.
  const client = postgres(poolOptions as postgres.Options<Record<string, never>>)
  refuseUnsent(client)
  return drizzle(client, { schema })
}

/**
 * A statement that the driver (postgres.js 3.4.9) hands to a connection in the moment after its reset is neither sent nor
 * refused: it is said to have succeeded, without a row, once the connection is back. A key would count as unknown, and
 * a BEGIN would leave its transaction in the midst of another. What has run bears its command's name.
 */
function refuseUnsent(client: postgres.Sql): void {
  const { unsafe } = client
  client.unsafe = ((...statement: Parameters<typeof unsafe>) => {
    const query = unsafe(...statement)
    const { then } = query
    const checked: typeof then = (onFulfilled, onRejected) =>
      then
        .call(query, (result) => {
          // A text of several statements (pg-boss sends some) has a result for each that answers with rows.
          const results: readonly unknown[] = result
          const last = 'command' in results ? results : results.at(-1)
          if (!(last instanceof Object && 'command' in last) || last.command === null)
            throw connectionClosed()
          // After a statement that failed amid its rows, the driver goes on counting: the first of these are holes.
          if (Array.isArray(last) && last.length > 0 && !(0 in last)) throw connectionClosed()
          return result
        })
        .then(onFulfilled as never, onRejected)
    // biome-ignore lint/suspicious/noThenProperty: the driver's query is a promise that is sent when it is waited for.
    query.then = checked
    return query
  }) as typeof unsafe
}

export const connectionClosed = (): Error =>
  Object.assign(new Error('the connection was lost before this statement'), { code: 'CONNECTION_CLOSED' })

/** Ends a pool: waits for what runs, a bounded time, then cuts. */
export const disconnect = (database: Database): Promise<void> => database.$client.end({ timeout: 1 })

/** Whether the database answers within the time. */
export const answers = (database: Database, milliseconds: number): Promise<boolean> =>
  inTime(database.execute(sql`select 1`), milliseconds).then(
    () => true,
    () => false,
  )

/** The row that a write by id returned. Throws when it touched none or several: then its condition is not what it seems. */
export function exactlyOne<Row>(rows: readonly Row[]): Row {
  const [row] = rows
  if (!row || rows.length > 1) throw new Error(`${rows.length} rows were written where one should have been`)
  return row
}

/** Deletes whatever meets the condition: in parts, so that however much it is, each is done within a statement's time. */
export async function deleteInParts(
  database: Pick<Database, 'select' | 'delete'>,
  table: PgTable,
  condition: SQL,
): Promise<void> {
  const part = database.select({ ctid: sql`ctid` }).from(table).where(condition).limit(10_000)
  let deleted: number
  do {
    const result = await database.delete(table).where(sql`ctid in ${part}`)
    deleted = result.count
  } while (deleted > 0)
}
