/**
 * The admission: the one statement that lets tokens out. PostgreSQL is the single point of order; see
 * docs/architecture.md for why each step is as it is. Its first step, still_current, stands beside the trigger that is
 * its counterpart, in drizzle (0001_guards.sql, 0006_admission.sql).
 */
import { inTime, TooLateError } from '../clock.ts'
import { arrayLiteral } from '../database/array-literal.ts'
import { type Database, disconnect } from '../database/database.ts'

/** A policy row as it was when the token was judged. */
export type Judged = { id: string; version: number }

/** One token that asks to leave: its ledger row, and the policy rows it was judged by. */
export type AdmissionRequest = {
  jti: string
  /** Unix time, seconds. */
  issuedAt: number
  expiresAt: number
  environment: 'sandbox' | 'production'
  scopes: readonly string[]
  audience: string
  clientIp: string
  requestId: string
  /** Of a token that is had for another one: that one, and those that it was had for. None of them may have been revoked. */
  subjectJtis: readonly string[] | undefined
  key: Judged
  client: Judged
  owner: Judged
  /** Whom the token is for; the owner itself unless a partner mints. */
  organization: Judged
  delegation: Judged | undefined
  signingKey: Judged
}

export type Window = {
  /** Tokens per minute. */
  limit: number
  remaining: number
  /** Until the window ends, rounded up. */
  resetSeconds: number
}

export type Verdict =
  | { outcome: 'admitted'; window: Window }
  | { outcome: 'limited'; window: Window }
  | { outcome: 'stale' }

/**
 * Settings of the sessions that run the statement. The planner cannot know how large a batch is, and expects next to
 * nothing behind row-level security: left alone, it joins by looping over the batch for each of its records. Without
 * nested loops it hashes, and the cost grows linearly; rows of tables are looked up by index, one by one.
 */
export const ADMISSION_SETTINGS = {
  enable_nestloop: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
}

type Row = { n: number; admitted: boolean; limit: number; remaining: number; reset_seconds: number }

/**
 * Decides on a batch, in order, in one durable transaction. Rejects when it cannot know that the rows are durable;
 * then no token of the batch may leave.
 */
export type AdmitBatch = (requests: readonly AdmissionRequest[]) => Promise<Verdict[]>

export type Admission = { admitBatch: AdmitBatch; close(): Promise<void> }

/** Longer than the statement's own limit in the database: past it, nobody answers at the other end. */
const DEADLINE_MILLISECONDS = 600

/** Makes its pool itself, with ADMISSION_SETTINGS, because it makes a new one when connections have died in silence. */
export function createAdmission(connect: () => Database): Admission {
  let pool = connect()
  /** One that has never answered may still be connecting: to begin again would be to never get there. */
  let hasAnswered = false
  return {
    async admitBatch(requests) {
      const used = pool
      try {
        const verdicts = await inTime(decide(used, requests), DEADLINE_MILLISECONDS)
        hasAnswered = true
        return verdicts
      } catch (error) {
        // Cutting the connections also keeps a batch that was given up from running when the database is back: its
        // tokens are gone, but it would use up their clients' windows.
        if (error instanceof TooLateError && used === pool && hasAnswered) {
          pool = connect()
          hasAnswered = false
          used.$client.end({ timeout: 0 }).catch(() => {})
        }
        throw error
      }
    },
    close: () => disconnect(pool),
  }
}

async function decide(database: Database, requests: readonly AdmissionRequest[]): Promise<Verdict[]> {
  const locks = arrayLiteral([...new Set(requests.flatMap(lockedRows))])
  // Column by column: the server takes that in at half the cost of JSON.
  const each = (member: (request: AdmissionRequest) => string | number | undefined) =>
    arrayLiteral(requests.map(member))
  const subjectJtis = each((request) => request.subjectJtis?.join(' '))
  // A statement by itself is its own transaction. postgres.js resolves it when the server is ready for the next one:
  // after the commit, not at the first sign of rows (docs/decisions/0002-durable-answer.md).
  const rows = await database.$client<Row[]>`
        -- 1. The tokens that were judged by what still is, and will be until this has committed; n counts from 1.
        with fresh as materialized (
          select *, row_number() over (partition by client_id order by n) as place
          from still_current(${locks}::text[],
            ${each(({ key }) => key.id)}::text[], ${each(({ key }) => key.version)}::bigint[],
            ${each(({ client }) => client.id)}::text[], ${each(({ client }) => client.version)}::bigint[],
            ${each(({ owner }) => owner.id)}::text[], ${each(({ owner }) => owner.version)}::bigint[],
            ${each(({ organization }) => organization.id)}::text[],
            ${each(({ organization }) => organization.version)}::bigint[],
            ${each(({ delegation }) => delegation?.id)}::text[],
            ${each(({ delegation }) => delegation?.version)}::bigint[],
            ${each(({ signingKey }) => signingKey.id)}::text[],
            ${each(({ signingKey }) => signingKey.version)}::bigint[], ${subjectJtis}::text[])
        ),

        -- 2. The clients' windows, cut by this database's clock, locked in the order of client_id so that instances
        -- cannot deadlock. The row lock makes the limit exact across instances.
        per_client as materialized (
          select client_id, rate_limit, count(*)::integer as wanted from fresh group by client_id, rate_limit
        ),
        windows as (
          insert into usage_minutes as u (client_id, window_start, rate_limit, admitted, limited, last_admitted)
          select client_id, date_trunc('minute', now()), rate_limit, least(wanted, rate_limit),
            wanted - least(wanted, rate_limit), least(wanted, rate_limit)
          from per_client order by client_id collate "C"
          on conflict (client_id, window_start) do update set
            rate_limit = excluded.rate_limit,
            last_admitted = greatest(least(excluded.admitted + excluded.limited, excluded.rate_limit - u.admitted), 0),
            admitted = u.admitted
              + greatest(least(excluded.admitted + excluded.limited, excluded.rate_limit - u.admitted), 0),
            limited = u.limited + excluded.admitted + excluded.limited
              - greatest(least(excluded.admitted + excluded.limited, excluded.rate_limit - u.admitted), 0)
          returning u.client_id, u.admitted, u.last_admitted
        ),
        judged as materialized (
          select f.n, f.rate_limit, f.place <= w.last_admitted as admitted,
            greatest(f.rate_limit - w.admitted + w.last_admitted - f.place, 0) as remaining
          from fresh f join windows w on w.client_id = f.client_id
        ),

        -- 3. The ledger.
        recorded as (
          insert into issued_tokens (jti, issued_at, expires_at, key_id, client_id, organization_id, environment,
            scopes, audience, kid, client_ip, request_id, subject_jtis)
          select jti, to_timestamp(issued_at), to_timestamp(expires_at), key_id, client_id, organization_id,
            environment, string_to_array(scopes, ' '), audience, kid, client_ip, request_id,
            string_to_array(subject_jtis, ' ')
          from unnest(${each(({ jti }) => jti)}::text[],
              ${each(({ issuedAt }) => issuedAt)}::bigint[], ${each(({ expiresAt }) => expiresAt)}::bigint[],
              ${each(({ key }) => key.id)}::text[], ${each(({ client }) => client.id)}::text[],
              ${each(({ organization }) => organization.id)}::text[],
              ${each(({ environment }) => environment)}::text[], ${each(({ scopes }) => scopes.join(' '))}::text[],
              ${each(({ audience }) => audience)}::text[], ${each(({ signingKey }) => signingKey.id)}::text[],
              ${each(({ clientIp }) => clientIp)}::inet[], ${each(({ requestId }) => requestId)}::text[],
              ${subjectJtis}::text[])
            with ordinality as asked (jti, issued_at, expires_at, key_id, client_id, organization_id, environment,
              scopes, audience, kid, client_ip, request_id, subject_jtis, n)
          where n in (select n from judged where admitted)
        )

        -- 4. What is not in the answer is stale.
        select n::integer, admitted, rate_limit as limit, remaining::integer,
          ceil(extract(epoch from date_trunc('minute', now()) + interval '1 minute' - now()))::integer as reset_seconds
        from judged`
  return toVerdicts(requests.length, rows)
}

/** Whose locks a token needs. A key's changes are under its client's lock. */
const lockedRows = (request: AdmissionRequest): string[] => {
  const rows = [request.client, request.owner, request.organization, request.signingKey]
  return (request.delegation ? [...rows, request.delegation] : rows).map(({ id }) => id)
}

function toVerdicts(count: number, rows: readonly Row[]): Verdict[] {
  const verdicts: Verdict[] = Array.from({ length: count }, () => ({ outcome: 'stale' }))
  for (const row of rows) {
    const window = { limit: row.limit, remaining: row.remaining, resetSeconds: row.reset_seconds }
    verdicts[row.n - 1] = { outcome: row.admitted ? 'admitted' : 'limited', window }
  }
  return verdicts
}
