/** From the operations to the router: what every request of the management API passes through, in this order. */
import { type Context, Hono } from 'hono'
import * as v from 'valibot'
import type { InTransaction, Transaction } from '../database/transaction.ts'
import { ApiError, ERRORS, notFound } from '../errors.ts'
import { checkMembers, parseStrictJson, readOptionalJsonText } from '../http/json-body.ts'
import { resource } from '../http/methods.ts'
import { problemBody } from '../http/problem.ts'
import { contextOf, type RequestEnv } from '../http/request-context.ts'
import { idPattern } from '../ids.ts'
import { type Authenticate, type Bearer, checkStanding, enter, insufficientScope } from './authenticate.ts'
import type { ChangeAnswer, PerformChange } from './change.ts'
import type { Cursors } from './cursor.ts'
import { parseIdempotencyKey } from './idempotency.ts'
import type { Operation } from './operation.ts'

/** A refused request, for the audit trail. */
export type ManagementRefusal = {
  operation: string
  code: string
  /** Undefined: nobody proved to be anybody. */
  bearer: Bearer | undefined
  targetId: string | undefined
  clientAddress: string
  requestId: string
}

export type ManagementDependencies = {
  authenticate: Authenticate
  /** On connections that see no tenant before they are told whose they are. */
  inTransaction: InTransaction
  performChange: PerformChange
  /** What the change resolves to, once the revocation feed has what it revoked. */
  followRevocation: <Answer>(change: Promise<Answer>) => Promise<Answer>
  cursors: Cursors
  onRefused: (refusal: ManagementRefusal) => void
}

/** What each parameter of a path looks like. */
export const PARAMETERS: Readonly<Record<string, RegExp>> = {
  organization_id: idPattern('organization'),
  client_id: idPattern('client'),
  key_id: idPattern('key'),
  delegation_id: idPattern('delegation'),
  jti: idPattern('token'),
  // RFC 7638 with SHA-256: 43 characters of base64url.
  kid: /^[\w-]{43}$/,
}

export const MAX_LIMIT = 100
export const DEFAULT_LIMIT = 20
const LIMIT_RULE = `must be an integer from 1 to ${MAX_LIMIT}`
export const PAGE = {
  limit: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[1-9]\d{0,2}$/, LIMIT_RULE),
      v.transform(Number),
      v.maxValue(MAX_LIMIT, LIMIT_RULE),
    ),
    String(DEFAULT_LIMIT),
  ),
  cursor: v.optional(v.pipe(v.string(), v.maxLength(1000, 'must be at most 1000 characters long'))),
}

export function managementRoutes(
  operations: readonly Operation[],
  dependencies: ManagementDependencies,
): Hono<RequestEnv> {
  const { authenticate, inTransaction, performChange, followRevocation, cursors, onRefused } = dependencies
  const app = new Hono<RequestEnv>()
  for (const [path, ofPath] of Map.groupBy(operations, (operation) => operation.path)) {
    const handlers = ofPath.map((operation) => [operation.method, handle(operation)])
    resource(app, path.replace(/\{(\w+)\}/g, ':$1'), Object.fromEntries(handlers))
  }
  return app

  function handle(operation: Operation) {
    return async (c: Context<RequestEnv>): Promise<Response> => {
      c.header('Cache-Control', 'no-store')
      const { clientAddress, requestId } = contextOf(c)
      let bearer: Bearer | undefined
      try {
        // 1. The token proves who asks; nothing else of the request counts before that.
        bearer = await authenticate(c.env.incoming, clientAddress)
        return operation.does.kind === 'change'
          ? await answerChange(operation, operation.does, c, bearer)
          : await answerRead(operation, operation.does, c, bearer)
      } catch (error) {
        if (error instanceof ApiError && ERRORS[error.code].status < 500) {
          const targetId = Object.values(c.req.param()).find(isId)
          onRefused({ operation: operation.id, code: error.code, bearer, targetId, clientAddress, requestId })
        }
        throw error
      }
    }
  }

  /** 2. The transaction becomes the tenant's; the bearer still stands, and holds the scope. */
  async function begin(transaction: Transaction, operation: Operation, bearer: Bearer) {
    const began = await enter(transaction, bearer, operation.scope)
    if (operation.isPlatformOnly && !began.actor.isPlatform)
      throw insufficientScope(operation.scope, 'Only the platform organization may do this.')
    return began
  }

  async function answerRead(
    operation: Operation,
    does: Exclude<Operation['does'], { kind: 'change' }>,
    c: Context<RequestEnv>,
    bearer: Bearer,
  ): Promise<Response> {
    const { clientAddress } = contextOf(c)
    const schema = operation.query ?? v.strictObject({})
    const answer = await inTransaction(bearer.organizationId, async (transaction) => {
      const { actor, now } = await begin(transaction, operation, bearer)
      // 3. What is asked for.
      const parameters = parametersOf(c)
      const request = { actor, transaction, parameters, now, clientAddress, body: undefined as never }
      if (does.kind === 'read') {
        const query = checkMembers(schema, queryOf(c), 'query') as never
        return does.read({ ...request, query })
      }
      const { limit, cursor, ...filters } = queryOf(c)
      const query = checkMembers(schema, filters, 'query') as never
      const page = checkMembers(v.strictObject(PAGE), { limit, cursor }, 'query')
      const identity = { organizationId: actor.organizationId, path: c.req.path, filters }
      const after = page.cursor === undefined ? undefined : cursors.open(page.cursor, identity)
      const found = await does.list({ ...request, query, take: page.limit + 1, after })
      const data = found.slice(0, page.limit)
      const last = found.length > page.limit ? data.at(-1) : undefined
      const next = last && cursors.make((does.positionOf as (item: object) => string)(last), identity)
      return { data, next_cursor: next ?? null }
    })
    return c.json(answer)
  }

  /** Key pairs are costly: refuse first. The check that counts runs again in the change's transaction. */
  async function prepareFor<T>(operation: Operation, prepare: () => Promise<T>, bearer: Bearer): Promise<T> {
    await inTransaction(bearer.organizationId, (transaction) => begin(transaction, operation, bearer))
    return prepare()
  }

  async function answerChange(
    operation: Operation,
    does: Extract<Operation['does'], { kind: 'change' }>,
    c: Context<RequestEnv>,
    bearer: Bearer,
  ): Promise<Response> {
    const { clientAddress, requestId, issuer } = contextOf(c)
    const text = await readOptionalJsonText(c.env.incoming)
    const prepared = (does.prepare && (await prepareFor(operation, does.prepare, bearer))) as never
    const changing = performChange(
      {
        method: operation.method,
        template: operation.path,
        path: c.req.path,
        share: bearer.organizationId,
        read() {
          // No part of the request's fingerprint.
          if (c.env.incoming.url?.includes('?'))
            throw new ApiError('invalid_request', 'This operation takes no query parameters.')
          return {
            idempotencyKey: parseIdempotencyKey(c.env.incoming),
            body: text === undefined ? undefined : parseStrictJson(text),
          }
        },
        clientAddress,
        requestId,
      },
      {
        begin: (transaction) => begin(transaction, operation, bearer),
        confirm: (transaction) => checkStanding(transaction, bearer, operation.scope),
        effect(transaction, { actor, now }, body) {
          const parameters = parametersOf(c)
          const given = body === undefined && operation.isBodyOptional ? {} : body
          const schema = operation.body ?? v.strictObject({})
          const checked = checkMembers(schema, given, 'body') as never
          const request = { actor, transaction, parameters, now, clientAddress, query: undefined as never }
          return does.change({ ...request, body: checked, prepared })
        },
        status: operation.status,
        problemOf: (refusal) => problemBody(refusal, { issuer, requestId }),
      },
    )
    return sendChange(c, await (operation.revokes ? followRevocation(changing) : changing))
  }
}

/** The answer to a change, or its repetition. */
export function sendChange(
  c: Context<RequestEnv>,
  { status, location, body, isReplay }: ChangeAnswer,
): Response {
  if (isReplay) c.header('Idempotency-Replayed', 'true')
  if (location !== null) c.header('Location', location)
  const type = status < 400 ? 'application/json' : 'application/problem+json'
  return c.body(body, status as 200, { 'Content-Type': type })
}

/** Each parameter once: of several, every reader would take another. */
function queryOf(c: Context<RequestEnv>): Record<string, string> {
  const parameters = Object.entries(c.req.queries())
  if (parameters.some(([, values]) => values.length > 1))
    throw new ApiError('invalid_request', 'A query parameter must not be repeated.')
  return Object.fromEntries(parameters.map(([name, [value = '']]) => [name, value]))
}

/** What cannot be an id names nothing: like one that nobody has, and one that is another tenant's. */
function parametersOf(c: Context<RequestEnv>): Record<string, string> {
  const parameters = c.req.param()
  for (const [name, value] of Object.entries(parameters)) if (!PARAMETERS[name]?.test(value)) throw notFound()
  return parameters
}

/** For the audit trail. A kid is none: a secret of 32 bytes that strayed into a path looks the same. */
const isId = (value: string): boolean =>
  Object.entries(PARAMETERS).some(([name, pattern]) => name !== 'kid' && pattern.test(value))
