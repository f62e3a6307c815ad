/** The OpenAPI document: valid, complete, and true to the router. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { describe, expect, test } from 'vitest'
import type { OpenApiDocument, OpenApiOperation } from '../../src/http/openapi.ts'
import { ISSUER, setUpService } from '../support/service.ts'

const { service } = await setUpService()
const response = await fetch(`${service.url}/openapi.json`)
const text = await response.text()
const document = JSON.parse(text) as OpenApiDocument

type Described = { name: string; method: string; path: string; operation: OpenApiOperation }
const operations: Described[] = Object.entries(document.paths).flatMap(([path, ofPath]) =>
  Object.entries(ofPath).map(([method, operation]) => ({
    name: `${method.toUpperCase()} ${path}`,
    method,
    path,
    operation,
  })),
)
const authenticated = operations.filter(({ operation }) => operation.security.length > 0)

/** Strict, with the components of the document at hand; a schema of the document compiles as it is. */
const ajv = new Ajv2020({ strict: true, strictRequired: false, allowUnionTypes: true, allErrors: true })
formats.default(ajv)
const DOCUMENT = 'https://signet.test/openapi'
const elsewhere = <Part>(part: Part): Part =>
  JSON.parse(JSON.stringify(part).replaceAll('"#/components/schemas/', `"${DOCUMENT}#/$defs/`))
ajv.addSchema({ $id: DOCUMENT, $defs: elsewhere(document.components.schemas) })
const errorsOf = (schema: object, value: unknown) => {
  const validate = ajv.compile(elsewhere(schema))
  return validate(value) ? [] : validate.errors
}

test('is an OpenAPI 3.1 document by an independent validator', async () => {
  expect(response.headers.get('content-type')).toBe('application/json')
  expect(document.openapi).toMatch(/^3\.1\.\d$/)
  const { valid, errors } = await new Validator().validate(JSON.parse(text))
  expect(errors).toBeUndefined()
  expect(valid).toBe(true)
})

test('has the operations of the router, no more and no fewer', () => {
  const routed = service.app.router.routes
    // What answers 405, preflights and the middleware are no operations.
    .filter(({ method }) => !['ALL', 'OPTIONS', 'HEAD'].includes(method))
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`)
  expect(operations.map(({ name }) => name).sort()).toEqual([...new Set(routed)].sort())
  expect(routed.length).toBeGreaterThan(35)
})

test('names each operation once, and describes each section and resource', () => {
  const ids = operations.map(({ operation }) => operation.operationId)
  expect(new Set(ids).size).toBe(ids.length)
  for (const { name, description } of document.tags) expect(description, name).toBeTruthy()
  expect(document.servers).toEqual([{ url: ISSUER }])
  // JSON Schema 2020-12 says null as a type.
  expect(text).not.toContain('"nullable"')
})

describe.each(operations)('$name', ({ path, operation }) => {
  test('declares the parameters of its path', () => {
    const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path')
    expect(declared.map(({ name }) => name)).toEqual([...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name))
    for (const parameter of operation.parameters ?? []) {
      expect(parameter.description, parameter.name).toBeTruthy()
      for (const example of parameter.schema.examples ?? []) {
        const { schema } = parameter
        expect(errorsOf(schema, example), parameter.name).toEqual([])
      }
    }
  })

  test('has schemas that compile, with examples that are valid by them', () => {
    const contents = [operation.requestBody, ...Object.values(operation.responses)].flatMap((part) =>
      Object.entries(part?.content ?? {}),
    )
    expect(contents.length).toBeGreaterThan(0)
    for (const [type, { schema, example, examples }] of contents) {
      if (!/json$|form-urlencoded$/.test(type)) continue
      expect(schema, type).toBeDefined()
      const values = examples
        ? Object.values(examples).map(
            ({ $ref }) => document.components.examples[$ref.split('/').at(-1) ?? '']?.value,
          )
        : [example]
      for (const value of values) {
        expect(value).toBeDefined()
        expect(errorsOf(schema ?? {}, value), JSON.stringify(value)).toEqual([])
      }
    }
  })
})

const ofOAuth = authenticated.filter(({ operation }) => operation.security.some(({ client }) => client))
const others = authenticated.filter((each) => !ofOAuth.includes(each))

const expectRefusals = (
  { responses }: OpenApiOperation,
  statuses: readonly number[],
  type: string,
  schema: string,
) => {
  for (const status of statuses) {
    const { content = {} } = responses[status] ?? {}
    expect(Object.keys(content), String(status)).toEqual([type])
    expect(content[type]?.schema).toEqual({ $ref: `#/components/schemas/${schema}` })
  }
  expect(responses[401]?.headers['WWW-Authenticate']).toMatchObject({ required: true })
  expect(responses[429]?.headers['Retry-After']).toMatchObject({ required: true })
  expect(responses[503]?.headers['Retry-After']).toMatchObject({ required: true })
}

test.each(others)('$name says how it refuses: 401, 403, 429, as problems', ({ operation }) => {
  expectRefusals(operation, [400, 401, 403, 429, 500, 503], 'application/problem+json', 'Problem')
})

test.each(ofOAuth)(
  '$name says how it refuses: as RFC 6749 §5.2 has it, never as problems',
  ({ operation }) => {
    expectRefusals(operation, [400, 401, 413, 429, 500, 503], 'application/json', 'OAuthError')
    // What HTTP would say with another status is a 400 there.
    expect(Object.keys(operation.responses).filter((status) => /^4/.test(status))).toEqual([
      '400',
      '401',
      '413',
      '429',
    ])
    expect(Object.keys(operation.responses[401]?.content?.['application/json']?.examples ?? {})).toEqual([
      'invalid_client',
    ])
    for (const [status, { headers }] of Object.entries(operation.responses))
      if (status >= '400') expect(headers, status).toMatchObject({ 'Cache-Control': { required: true } })
  },
)

test('the endpoints of OAuth take forms, and nothing else', () => {
  expect(ofOAuth.map(({ name }) => name).sort()).toEqual([
    'POST /oauth2/introspect',
    'POST /oauth2/revoke',
    'POST /oauth2/token',
    'POST /sandbox/oauth2/introspect',
    'POST /sandbox/oauth2/revoke',
    'POST /sandbox/oauth2/token',
  ])
  for (const { name, operation } of ofOAuth) {
    expect(operation.requestBody?.required, name).toBe(true)
    expect(Object.keys(operation.requestBody?.content ?? {}), name).toEqual([
      'application/x-www-form-urlencoded',
    ])
  }
  for (const { name, operation } of others)
    if (operation.requestBody)
      expect(Object.keys(operation.requestBody.content), name).toEqual(['application/json'])
})

test('has a security scheme for each way to authenticate; whoever knows OAuth gets a management token with it', () => {
  const { securitySchemes } = document.components
  expect(securitySchemes.client).toMatchObject({ type: 'http', scheme: 'basic' })
  expect(securitySchemes.access_token).toMatchObject({ type: 'http', scheme: 'bearer' })
  const used = new Set(operations.flatMap(({ operation }) => operation.security.flatMap(Object.keys)))
  expect([...used].sort()).toEqual(Object.keys(securitySchemes).sort())
  const needed = operations.flatMap(({ operation }) =>
    operation.security.flatMap((each) => each.oauth2 ?? []),
  )
  const { flows } = securitySchemes.oauth2 as {
    flows: Record<string, { tokenUrl: string; scopes: Record<string, string> }>
  }
  expect(Object.keys(flows)).toEqual(['clientCredentials'])
  expect(flows.clientCredentials?.tokenUrl).toBe(`${ISSUER}/oauth2/token`)
  expect(Object.keys(flows.clientCredentials?.scopes ?? {}).sort()).toEqual([...new Set(needed)].sort())
  expect(document.paths['/oauth2/token']?.post).toBeDefined()
})

test('every operation of the management API names its scope, and each change takes an Idempotency-Key', () => {
  const management = authenticated.filter(({ operation }) =>
    operation.security.some((each) => each.access_token),
  )
  expect(management.length).toBeGreaterThan(25)
  for (const { name, method, operation } of management) {
    const [scope = ''] = operation.security[0]?.access_token ?? []
    expect(scope, name).toMatch(/^signet:/)
    expect(operation.description, name).toContain(`\`${scope}\``)
    const takesKey = operation.parameters?.some((parameter) => parameter.name === 'Idempotency-Key') ?? false
    expect(takesKey, name).toBe(method !== 'get')
  }
})

test('is cacheable, and any page may read it', async () => {
  const etag = response.headers.get('etag') ?? ''
  expect(etag).toMatch(/^"[\w-]+"$/)
  expect(response.headers.get('cache-control')).toBe('public, max-age=300')
  expect(response.headers.get('access-control-allow-origin')).toBe('*')
  const again = await fetch(`${service.url}/openapi.json`, { headers: { 'If-None-Match': etag } })
  expect([again.status, await again.text()]).toEqual([304, ''])
  const head = await fetch(`${service.url}/openapi.json`, { method: 'HEAD' })
  expect([head.status, head.headers.get('etag'), await head.text()]).toEqual([200, etag, ''])
  expect((await fetch(`${service.url}/openapi.json`, { method: 'POST' })).status).toBe(405)
})
