/** What a route says of itself, beside its handler: the OpenAPI document is made of these (openapi.ts). */
import type { GenericSchema } from 'valibot'
import type { ErrorCode } from '../errors.ts'

export type Description = {
  /** OpenAPI's operationId. */
  id: string
  method: 'GET' | 'POST' | 'PATCH'
  /** OpenAPI's template: `/v2/clients/{client_id}`. */
  path: string
  tag: string
  summary: string
  description?: string
  /** What authenticates: an access token for the management API, a key, an OAuth client, or nothing. */
  security: 'access_token' | 'key' | 'client' | 'none'
  /** How it says what went wrong. Default: as problems. */
  errorFormat?: 'oauth'
  /** That the access token needs. */
  scope?: string
  /** Of the path, by name. */
  parameters?: Readonly<Record<string, GenericSchema>>
  /** By name. What is optional in the schema is not required. */
  query?: Readonly<Record<string, GenericSchema>>
  /** `mediaType`: default application/json. */
  body?: { schema: GenericSchema; isRequired: boolean; mediaType?: string }
  takesIdempotencyKey?: boolean
  /** By status; what is no error. */
  answers: Readonly<Record<number, DescribedAnswer>>
  /** Every one that it may answer with. */
  errors: readonly ErrorCode[]
}

export type DescribedAnswer = {
  description: string
  /** Default: application/json, where there is a schema. */
  mediaType?: string
  schema?: GenericSchema
  /** What else it may be, of which no schema speaks. */
  otherMediaTypes?: readonly string[]
  /** Fields of the answer, and what each says. */
  headers?: Readonly<Record<string, string>>
}
