/** The OpenAPI 3.1 document, made of what the routes say of themselves and of the schemas that check their requests. */
import type * as v from 'valibot'
import { ApiError, ERRORS, type ErrorCode } from '../errors.ts'
import type { DescribedAnswer, Description } from './description.ts'
import { exampleOf } from './example.ts'
import { type JsonSchema, jsonSchemaOf, titledSchemas, withDescription } from './json-schema.ts'
import { OAuthError, oauthErrorBody, oauthStatus } from './oauth-error.ts'
import { type Field, Problem, problemExample, problemFields } from './problem-schema.ts'
import { securityOf, securitySchemesOf } from './security-schemes.ts'

export type OpenApiParameter = {
  name: string
  in: 'path' | 'query' | 'header'
  required: boolean
  description?: string
  schema: JsonSchema
}
export type OpenApiMedia = {
  schema?: JsonSchema
  example?: unknown
  /** Of errors: by their code. */
  examples?: Record<string, { $ref: string }>
}
export type OpenApiResponse = {
  description: string
  headers: Record<string, Field | { $ref: string }>
  content?: Record<string, OpenApiMedia>
}
export type OpenApiOperation = {
  operationId: string
  tags: string[]
  summary: string
  description?: string
  security: Record<string, string[]>[]
  parameters?: OpenApiParameter[]
  requestBody?: { required: boolean; content: Record<string, OpenApiMedia> }
  responses: Record<string, OpenApiResponse>
}
export type OpenApiDocument = {
  openapi: string
  info: object
  servers: { url: string }[]
  tags: { name: string; description?: string }[]
  paths: Record<string, Record<string, OpenApiOperation>>
  components: {
    schemas: Record<string, JsonSchema>
    examples: Record<string, { summary: string; value: unknown }>
    headers: Record<string, object>
    securitySchemes: Record<string, object>
  }
}

export type About = {
  issuer: string
  info: { title: string; version: string } & Record<string, unknown>
  /** In this order; what each holds. */
  tags: Readonly<Record<string, string>>
}

const IDEMPOTENCY_KEY: OpenApiParameter = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description:
    'The request takes effect once, however often it is sent with this key within 24 hours; the answer is repeated. ' +
    '1 to 255 visible ASCII characters, best a random UUID, in quotes or bare.',
  schema: {
    type: 'string',
    minLength: 1,
    maxLength: 512,
    examples: ['"3f1c9a52-7d0e-4c0b-9a53-7f6f2f6f1a10"'],
  },
}

export function buildOpenApi(descriptions: readonly Description[], about: About): OpenApiDocument {
  const answered = descriptions.flatMap(({ answers }) =>
    Object.values(answers).flatMap(({ schema }) => (schema ? [schema] : [])),
  )
  const titled = titledSchemas([...answered, Problem, OAuthError])
  const schemas = Object.fromEntries(
    Object.entries(titled).map(([title, schema]) => {
      const { [title]: _itself, ...others } = titled
      return [title, jsonSchemaOf(schema, 'output', others)]
    }),
  )
  const paths: OpenApiDocument['paths'] = {}
  for (const description of descriptions) {
    paths[description.path] ??= {}
    Object.assign(paths[description.path] ?? {}, {
      [description.method.toLowerCase()]: operationOf(description),
    })
  }
  const used = new Set(descriptions.map(({ tag }) => tag))
  return {
    openapi: '3.1.1',
    info: about.info,
    servers: [{ url: about.issuer }],
    tags: [...new Set([...Object.keys(about.tags), ...used])]
      .filter((name) => used.has(name))
      .map((name) => ({ name, ...(about.tags[name] ? { description: about.tags[name] } : {}) })),
    paths,
    components: {
      schemas,
      examples: {
        ...Object.fromEntries(
          (Object.keys(ERRORS) as ErrorCode[]).map((code) => [
            code,
            { summary: ERRORS[code].title, value: problemExample(code, about.issuer) },
          ]),
        ),
        ...OAUTH_EXAMPLES,
      },
      headers: { 'X-Request-Id': REQUEST_ID },
      securitySchemes: securitySchemesOf(descriptions, about.issuer),
    },
  }

  function operationOf(description: Description): OpenApiOperation {
    const { id, tag, summary, security, scope, body, takesIdempotencyKey } = description
    const parameters = [
      ...Object.entries(description.parameters ?? {}).map(([name, schema]) =>
        parameterOf(name, 'path', schema),
      ),
      ...Object.entries(description.query ?? {}).map(([name, schema]) => parameterOf(name, 'query', schema)),
      ...(takesIdempotencyKey ? [IDEMPOTENCY_KEY] : []),
    ]
    const text = [description.description, scope && `Needs the scope \`${scope}\`.`]
      .filter(Boolean)
      .join('\n\n')
    return {
      operationId: id,
      tags: [tag],
      summary,
      ...(text === '' ? {} : { description: text }),
      security: securityOf(security, scope),
      ...(parameters.length > 0 ? { parameters } : {}),
      ...(body ? { requestBody: requestBodyOf(body) } : {}),
      responses: responsesOf(description),
    }
  }

  function requestBodyOf({
    schema,
    isRequired,
    mediaType = 'application/json',
  }: NonNullable<Description['body']>) {
    const described = jsonSchemaOf(schema, 'input')
    const media = { schema: described, example: exampleOf(described, schemas) }
    return { required: isRequired, content: { [mediaType]: media } }
  }

  function responsesOf(description: Description): Record<string, OpenApiResponse> {
    const responses: Record<string, OpenApiResponse> = {}
    for (const [status, answer] of Object.entries(description.answers)) responses[status] = responseOf(answer)
    const codes = [...new Set(description.errors)].sort(byOrder)
    const isOAuth = description.errorFormat === 'oauth'
    const statusOf = (code: ErrorCode) => (isOAuth ? oauthStatus(code) : ERRORS[code].status)
    for (const [status, ofStatus] of Map.groupBy(codes, statusOf)) {
      const respond = isOAuth ? oauthResponse : problemResponse
      const problem = respond(ofStatus, problemFields(status, description))
      const other = responses[status]
      responses[status] = other
        ? {
            description: `${other.description} Or ${problem.description}`,
            headers: { ...other.headers, ...problem.headers },
            content: { ...other.content, ...problem.content },
          }
        : problem
    }
    return responses
  }

  function responseOf(answer: DescribedAnswer): OpenApiResponse {
    const { description, mediaType, schema, headers = {}, otherMediaTypes = [] } = answer
    const described = schema && jsonSchemaOf(schema, 'output', titled)
    const type = mediaType ?? (schema && 'application/json')
    return {
      description,
      headers: {
        ...WITH_REQUEST_ID,
        ...Object.fromEntries(
          Object.entries(headers).map(([name, text]) => [
            name,
            { description: text, schema: { type: 'string' } },
          ]),
        ),
      },
      ...(type === undefined
        ? {}
        : {
            content: {
              [type]: described ? { schema: described, example: exampleOf(described, schemas) } : {},
              ...Object.fromEntries(otherMediaTypes.map((other) => [other, {}])),
            },
          }),
    }
  }
}

const REQUEST_ID_EXAMPLE = '5f0c3a52-9d1e-4c0b-8a53-7f6f2f6f1a10'
const REQUEST_ID = {
  description: 'Names the request, in our logs too.',
  required: true,
  schema: { type: 'string', format: 'uuid' },
}
const WITH_REQUEST_ID = { 'X-Request-Id': { $ref: '#/components/headers/X-Request-Id' } }

const problemResponse = (codes: readonly ErrorCode[], fields: Record<string, Field>): OpenApiResponse => ({
  description: `${codes.map((code) => `\`${code}\``).join(', ')}.`,
  headers: { ...WITH_REQUEST_ID, ...fields },
  content: {
    'application/problem+json': {
      schema: { $ref: `#/components/schemas/Problem` },
      examples: Object.fromEntries(codes.map((code) => [code, { $ref: `#/components/examples/${code}` }])),
    },
  },
})

const oauthExample = (code: ErrorCode) =>
  oauthErrorBody(new ApiError(code, `${ERRORS[code].title}.`), REQUEST_ID_EXAMPLE)

/** By OAuth's codes, several of ours being one of them; the first of ours stands for it. */
const OAUTH_EXAMPLES = Object.fromEntries(
  (Object.keys(ERRORS) as ErrorCode[])
    .map((code) => ({ summary: ERRORS[code].title, value: oauthExample(code) }))
    .reverse()
    .map((example) => [`oauth_${example.value.error}`, example]),
)

/** RFC 6749 §5.1, §5.2: of every refusal. */
const NO_STORE: Record<string, Field> = {
  'Cache-Control': { description: '`no-store`.', required: true, schema: { type: 'string' } },
  Pragma: { description: '`no-cache`.', required: true, schema: { type: 'string' } },
}

const oauthResponse = (codes: readonly ErrorCode[], fields: Record<string, Field>): OpenApiResponse => {
  const named = [...new Set(codes.map((code) => oauthExample(code).error))]
  return {
    description: `${named.map((code) => `\`${code}\``).join(', ')}.`,
    headers: { ...WITH_REQUEST_ID, ...NO_STORE, ...fields },
    content: {
      'application/json': {
        schema: { $ref: '#/components/schemas/OAuthError' },
        examples: Object.fromEntries(
          named.map((code) => [code, { $ref: `#/components/examples/oauth_${code}` }]),
        ),
      },
    },
  }
}

function parameterOf(name: string, place: 'path' | 'query', schema: v.GenericSchema): OpenApiParameter {
  const { description, ...described } = withDescription(jsonSchemaOf(schema, 'input'), schema)
  return {
    name,
    in: place,
    required: place === 'path' || schema.type !== 'optional',
    ...(description === undefined ? {} : { description }),
    schema: described,
  }
}

/** As errors.ts has them. */
const ORDER = Object.keys(ERRORS)
const byOrder = (a: string, b: string) => ORDER.indexOf(a) - ORDER.indexOf(b)
