/**
 * The admission: the one statement that lets tokens out. PostgreSQL is the single point of order; see
 * docs/architecture.md for why each step is as it is.
 */
import type { Database } from '../database/database.ts'

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
 * then no token of the batch may leave. A batch whose `signal` is aborted before it has a connection never runs.
 */
export type AdmitBatch = (requests: readonly AdmissionRequest[], signal: AbortSignal) => Promise<Verdict[]>

/** The pool must have been made with ADMISSION_SETTINGS. */
export function createAdmission(database: Database): AdmitBatch {
  return async (requests, signal) => {
    const records = JSON.stringify(requests.map(toRecord))
    const locks = [...new Set(requests.flatMap(lockedRows))].join(' ')
    // The transaction is explicit because its commit is what makes the answer mean "durable": a bare statement reports
    // its rows before its implicit commit, and a server that is shut down in between rolls them back.
    const [, rows] = await database.$client.begin((transaction) => {
      signal.throwIfAborted()
      return Promise.all([
        // 0. Share the locks of the policy rows with other admissions, so that whoever changes one commits after this
        // transaction. A lock that somebody has or waits for is not waited for: that row counts as changed. This is a
        // statement of its own because the next one must see all that was committed before the locks were had.
        transaction`
          select set_config('signet.busy', coalesce(string_agg(id, ' ')
            filter (where not pg_try_advisory_xact_lock_shared(hashtextextended(id, 0))), ''), true)
          from unnest(string_to_array(${locks}, ' ')) as id`,
        transaction<Row[]>`
        with asked as materialized (
          select * from jsonb_to_recordset(${records}::text::jsonb) as r (
            n integer, jti text, issued_at bigint, expires_at bigint, environment text, scopes text[], audience text,
            client_ip inet, request_id text, key_id text, key_version bigint, client_id text, client_version bigint,
            owner_id text, owner_version bigint, organization_id text, organization_version bigint,
            delegation_id text, delegation_version bigint, kid text, kid_version bigint)
        ),

        -- 1. Which tokens were judged by policy rows that still are what they were?
        fresh as materialized (
          select a.*, c.rate_limit, row_number() over (partition by a.client_id order by a.n) as place
          from asked a
          cross join lateral (
            select rate_limit_per_minute as rate_limit from clients
            where id = a.client_id and version = a.client_version offset 0
          ) c
          where a.key_version = (select version from keys
              where id = a.key_id and (expires_at is null or expires_at > now()))
            and a.owner_version = (select version from organizations where id = a.owner_id)
            and a.organization_version = (select version from organizations where id = a.organization_id)
            and a.kid_version = (select version from signing_keys where kid = a.kid)
            and (a.delegation_id is null
              or a.delegation_version = (select version from delegations where id = a.delegation_id))
            and not string_to_array(current_setting('signet.busy'), ' ')
              && array[a.client_id, a.owner_id, a.organization_id, a.delegation_id, a.kid]
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
          from per_client order by client_id
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
          select f.*, f.place <= w.last_admitted as admitted,
            greatest(f.rate_limit - w.admitted + w.last_admitted - f.place, 0) as remaining
          from fresh f join windows w on w.client_id = f.client_id
        ),

        -- 3. The ledger.
        recorded as (
          insert into issued_tokens (jti, issued_at, expires_at, key_id, client_id, organization_id, environment,
            scopes, audience, kid, client_ip, request_id)
          select jti, to_timestamp(issued_at), to_timestamp(expires_at), key_id, client_id, organization_id,
            environment, scopes, audience, kid, client_ip, request_id
          from judged where admitted
        )

        -- 4. What is not in the answer is stale.
        select n, admitted, rate_limit as limit, remaining::integer,
          ceil(extract(epoch from date_trunc('minute', now()) + interval '1 minute' - now()))::integer as reset_seconds
        from judged`,
      ])
    })
    return toVerdicts(requests.length, rows)
  }
}

/** Whose locks a token needs. A key's changes are under its client's lock. */
const lockedRows = (request: AdmissionRequest): string[] => {
  const rows = [request.client, request.owner, request.organization, request.signingKey]
  return (request.delegation ? [...rows, request.delegation] : rows).map(({ id }) => id)
}

function toRecord(request: AdmissionRequest, n: number) {
  return {
    n,
    jti: request.jti,
    issued_at: request.issuedAt,
    expires_at: request.expiresAt,
    environment: request.environment,
    scopes: request.scopes,
    audience: request.audience,
    client_ip: request.clientIp,
    request_id: request.requestId,
    key_id: request.key.id,
    key_version: request.key.version,
    client_id: request.client.id,
    client_version: request.client.version,
    owner_id: request.owner.id,
    owner_version: request.owner.version,
    organization_id: request.organization.id,
    organization_version: request.organization.version,
    delegation_id: request.delegation?.id,
    delegation_version: request.delegation?.version,
    kid: request.signingKey.id,
    kid_version: request.signingKey.version,
  }
}

function toVerdicts(count: number, rows: readonly Row[]): Verdict[] {
  const verdicts: Verdict[] = Array.from({ length: count }, () => ({ outcome: 'stale' }))
  for (const row of rows) {
    const window = { limit: row.limit, remaining: row.remaining, resetSeconds: row.reset_seconds }
    verdicts[row.n] = { outcome: row.admitted ? 'admitted' : 'limited', window }
  }
  return verdicts
}
