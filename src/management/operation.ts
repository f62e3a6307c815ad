/**
 * An operation of the management API, as data: what it is called, what it takes and answers, which scope it needs, and
 * what it does. The router, the OpenAPI document and the tests of the route table are all made from these.
 */
import type * as v from 'valibot'
import type { Transaction } from '../database/transaction.ts'
import type { ErrorCode } from '../errors.ts'
import type { ManagementScope } from './scopes.ts'

/** Who does something: a client, by one of its keys, for its organization. */
export type Principal = { clientId: string; keyId: string; organizationId: string }

/** Who asks, as far as a verified access token and the database say. */
export type Actor = Principal & {
  /** Whether that organization is the platform: then it acts on every tenant. */
  isPlatform: boolean
  /** What the client holds now; the token may hold less. */
  scopes: readonly string[]
  /** The client that made its key; null: the first start. */
  keyCreatedBy: string | null
}

export type ManagementRequest<Query, Body> = {
  actor: Actor
  /** Sees the actor's tenant only, unless the actor is the platform. Ends with the request. */
  transaction: Transaction
  /** The path's parameters; each looks like an id of its kind. */
  parameters: Readonly<Record<string, string>>
  query: Query
  body: Body
  /** The database's clock, at the beginning of the transaction. */
  now: Date
  clientAddress: string
}

/** What a change leaves in the audit trail, written in its transaction. Never holds a secret. */
export type AuditedChange = {
  /** Whose trail it belongs to: the organization that owns the target. */
  organizationId: string
  /** `client.approve` */
  action: string
  targetId: string
  /** The members that changed. */
  before?: object
  after?: object
}

export type Changed = {
  /** The resource, as it is now. */
  resource: object
  change: AuditedChange
  /** Of what was made. */
  location?: string
  /** Instead of `resource`, for repetitions of the request: where the resource holds a secret. */
  replay?: object
  /** Runs after the commit: what must learn of it at once. */
  afterwards?: () => void | Promise<void>
}

/** Of what is asked for, what is not so already: a row that is written for nothing gets another version. */
export const changesTo = <Row extends object, Changes extends Partial<Row>>(
  row: Row,
  asked: Changes,
): Changes =>
  Object.fromEntries(
    Object.entries(asked).filter(
      ([name, value]) => JSON.stringify(value) !== JSON.stringify(row[name as keyof Row]),
    ),
  ) as Changes

/** The members in which two states of a resource differ, for the audit trail. */
export function differences<Resource extends object>(before: Resource, after: Resource) {
  const names = (Object.keys(after) as (keyof Resource)[]).filter(
    (name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]),
  )
  const pick = (resource: Resource) => Object.fromEntries(names.map((name) => [name, resource[name]]))
  return { before: pick(before), after: pick(after) }
}

type Schema = v.GenericSchema
type Output<S extends Schema | undefined> = S extends Schema ? v.InferOutput<S> : undefined

type Common = {
  /** Unique; OpenAPI's operationId. */
  id: string
  path: `/v2/${string}`
  tag: string
  summary: string
  description?: string
  scope: ManagementScope
  /** Refused to all other organizations. */
  isPlatformOnly?: boolean
  /** Whether it may end tokens that were issued: then its answer waits, a bounded time, until the revocation feed knows. */
  revokes?: boolean
  /** What it may answer beyond what every operation may. */
  errors?: readonly ErrorCode[]
}

export type Operation = Common & {
  method: 'GET' | 'POST' | 'PATCH'
  /** Of the answer's body; of a list, of each item. */
  resource: Schema
  query: Schema | undefined
  body: Schema | undefined
  /** A body may be left out where no member is required. */
  isBodyOptional: boolean
  status: 200 | 201
  does:
    | { kind: 'read'; read: (request: ManagementRequest<never, never>) => Promise<object> }
    | {
        kind: 'list'
        list: (request: ManagementRequest<never, never> & PageRequest) => Promise<readonly object[]>
        positionOf: (item: never) => string
      }
    | {
        kind: 'change'
        prepare?: () => Promise<unknown>
        change: (request: ManagementRequest<never, never> & { prepared: never }) => Promise<Changed>
      }
}

export type PageRequest = {
  /** The items wanted, and one more, which tells that there is a next page. */
  take: number
  /** What positionOf said of the last item that was seen. */
  after: string | undefined
}

const READING = { method: 'GET', status: 200, body: undefined, isBodyOptional: true } as const

/** `GET` of one resource. */
export const read = <Query extends Schema | undefined = undefined>(
  operation: Common & {
    resource: Schema
    query?: Query
    read: (request: ManagementRequest<Output<Query>, undefined>) => Promise<object>
  },
): Operation => ({
  ...operation,
  ...READING,
  query: operation.query,
  does: { kind: 'read', read: operation.read },
})

/** `GET` of a list, the newest first. `limit` and `cursor` are added to its query. */
export const list = <Query extends Schema | undefined = undefined, Item extends object = object>(
  operation: Common & {
    /** Of each item. */
    resource: Schema
    query?: Query
    list: (request: ManagementRequest<Output<Query>, undefined> & PageRequest) => Promise<readonly Item[]>
    /** Where an item stands in the order, for the next page to go on after it. */
    positionOf: (item: Item) => string
  },
): Operation => ({
  ...operation,
  ...READING,
  query: operation.query,
  does: { kind: 'list', list: operation.list, positionOf: operation.positionOf },
})

/**
 * `POST` or `PATCH`: takes an Idempotency-Key and leaves an audit event. Answers 201 when it says where what it made is.
 *
 * `prepare` makes what takes work that a transaction must not wait for, such as a key pair. It runs before the
 * transaction, once it is known that the actor may do this, and without knowing what is asked for: the change may still
 * be refused, or be a repetition, and then what it made is dropped.
 */
export const change = <Body extends Schema | undefined = undefined, Prepared = undefined>(
  operation: Common & {
    method: 'POST' | 'PATCH'
    resource: Schema
    body?: Body
    isBodyOptional?: boolean
    status?: 200 | 201
    prepare?: () => Promise<Prepared>
    change: (request: ManagementRequest<undefined, Output<Body>> & { prepared: Prepared }) => Promise<Changed>
  },
): Operation => ({
  ...operation,
  status: operation.status ?? 200,
  query: undefined,
  body: operation.body,
  isBodyOptional: operation.isBodyOptional ?? false,
  does: {
    kind: 'change',
    ...(operation.prepare ? { prepare: operation.prepare } : {}),
    change: operation.change,
  },
})
