/**
 * The admission: the one statement that lets tokens out. PostgreSQL is the single point of order; see docs/architecture.md for
 * why each step is as it is. The statement is the function `admit` (drizzle/0007_admit.sql); its first step, `still_current`
 * (0006_admission.sql), is the counterpart of the trigger that guards policy rows (0001_guards.sql).
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

/** `verdicts`: an array of arrays, as PostgreSQL writes it. */
type Row = { verdicts: string | null; reset_seconds: number }

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
  // A statement by itself is its own transaction. postgres.js resolves it when the server is ready for the next one:
  // after the commit, not at the first sign of rows (docs/decisions/0002-durable-answer.md).
  const [row] = await database.$client<[Row]>`
    select * from admit(${locks},
      ${each(({ key }) => key.id)}, ${each(({ key }) => key.version)},
      ${each(({ client }) => client.id)}, ${each(({ client }) => client.version)},
      ${each(({ owner }) => owner.id)}, ${each(({ owner }) => owner.version)},
      ${each(({ organization }) => organization.id)}, ${each(({ organization }) => organization.version)},
      ${each(({ delegation }) => delegation?.id)}, ${each(({ delegation }) => delegation?.version)},
      ${each(({ signingKey }) => signingKey.id)}, ${each(({ signingKey }) => signingKey.version)},
      ${each(({ subjectJtis }) => subjectJtis?.join(' '))},
      ${each(({ jti }) => jti)}, ${each(({ issuedAt }) => issuedAt)}, ${each(({ expiresAt }) => expiresAt)},
      ${each(({ environment }) => environment)}, ${each(({ scopes }) => scopes.join(' '))},
      ${each(({ audience }) => audience)}, ${each(({ clientIp }) => clientIp)}, ${each(({ requestId }) => requestId)})`
  return toVerdicts(requests.length, row)
}

/** Whose locks a token needs. A key's changes are under its client's lock. */
const lockedRows = (request: AdmissionRequest): string[] => {
  const rows = [request.client, request.owner, request.organization, request.signingKey]
  return (request.delegation ? [...rows, request.delegation] : rows).map(({ id }) => id)
}

function toVerdicts(count: number, { verdicts: text, reset_seconds: resetSeconds }: Row): Verdict[] {
  const verdicts: Verdict[] = Array.from({ length: count }, () => ({ outcome: 'stale' }))
  const judged: [number, number, number, number][] = JSON.parse(
    (text ?? '{}').replaceAll('{', '[').replaceAll('}', ']'),
  )
  for (const [place, isAdmitted, limit, remaining] of judged)
    verdicts[place - 1] = {
      outcome: isAdmitted ? 'admitted' : 'limited',
      window: { limit, remaining, resetSeconds },
    }
  return verdicts
}
