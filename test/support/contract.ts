/**
 * The OpenAPI document held against what the service answers: that the operation documents the status, the media type
 * and the fields, and that the body is what its schema says.
 */
import type { ServerResponse } from 'node:http'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import type { Door, Doors } from '../../src/http/door.ts'
import type { JsonSchema } from '../../src/http/json-schema.ts'
import type { OpenApiDocument, OpenApiOperation, OpenApiResponse } from '../../src/http/openapi.ts'

export type ObservedAnswer = {
  method: string
  /** With or without a query. */
  path: string
  status: number
  headers: Headers
  /** Of a body that is text; undefined: there was none, or it is none to look into. */
  body: string | undefined
}

export type Contract = {
  /** The rules that the answer breaks; none where it keeps them all. */
  violationsOf(answer: ObservedAnswer): string[]
  /** The operation that a request is for, by its method and path. */
  find(
    method: string,
    path: string,
  ): { template: string; operation: OpenApiOperation | undefined } | undefined
}

/**
 * Watches what an application answers; `violations` fills with what breaks the contract, each once, with the last body
 * that did.
 */
export function watch(
  { fetch, doors }: { fetch: Fetch; doors: Doors },
  contract: () => Contract | undefined,
): { fetch: Fetch; doors: Doors; violations: Map<string, string> } {
  const violations = new Map<string, string>()

  function look(watched: Contract, answer: ObservedAnswer): void {
    for (const violation of violationsOf(watched, answer))
      violations.set(`${answer.method} ${answer.path} → ${answer.status}: ${violation}`, answer.body ?? '')
  }

  const watchDoor =
    (path: string, door: Door): Door =>
    async (request) => {
      const answer = await door(request)
      const watched = contract()
      const headers = withFieldsOf(request, new Headers(answer.fields))
      if (watched) look(watched, { ...answer, method: 'POST', path, headers })
      return answer
    }

  return {
    violations,
    doors: Object.fromEntries(Object.entries(doors).map(([path, door]) => [path, watchDoor(path, door)])),
    async fetch(request, ...rest) {
      const response = await fetch(request, ...rest)
      const watched = contract()
      if (!watched) return response
      const { status } = response
      const headers = withFieldsOf(rest[0] as Bindings, response.headers)
      const { pathname } = new URL(request.url)
      const isText = /json|^text\//.test(headers.get('content-type') ?? '')
      const body = isText && request.method !== 'HEAD' ? await response.text() : undefined
      look(watched, { method: request.method, path: pathname, status, headers, body })
      // What has been read is sent as it was.
      return body === undefined ? response : new Response(body, { status, headers })
    },
  }
}

type Bindings = { outgoing: object }

/** Those too that were set beforehand: of a door's answer they are gathered, of others set on node's own response. */
function withFieldsOf({ outgoing }: Bindings, headers: Headers): Headers {
  const fields =
    'lines' in outgoing
      ? pairsOf(outgoing.lines as string[])
      : Object.entries((outgoing as ServerResponse).getHeaders())
  for (const [name, value] of fields) if (!headers.has(name)) headers.set(name, String(value))
  return headers
}

const pairsOf = (lines: readonly string[]) =>
  lines.flatMap((name, i) => (i % 2 === 0 ? [[name, lines[i + 1]] as const] : []))

/** A schema that does not compile is one too: it must not become a 500. */
function violationsOf(contract: Contract, answer: ObservedAnswer): string[] {
  try {
    return contract.violationsOf(answer)
  } catch (error) {
    return [String(error)]
  }
}

export type Fetch = (request: Request, ...rest: unknown[]) => Response | Promise<Response>

export function createContract(document: OpenApiDocument): Contract {
  const ajv = createAjv(document)
  const templates = Object.keys(document.paths)
    // A path without parameters before one with them, as the router has it.
    .sort((a, b) => Number(a.includes('{')) - Number(b.includes('{')))
    .map((template) => ({
      template,
      pattern: new RegExp(`^${template.replace(/[.]/g, '\\.').replace(/\{\w+\}/g, '[^/]+')}$`),
    }))
  const validators = new Map<JsonSchema, ValidateFunction>()

  const validatorOf = (schema: JsonSchema) => {
    const known = validators.get(schema)
    if (known) return known
    const made = ajv.compile(toStrict(schema))
    validators.set(schema, made)
    return made
  }

  function find(method: string, path: string) {
    const bare = decoded(path.replace(/\?.*$/s, ''))
    const match = templates.find(({ pattern }) => pattern.test(bare))
    if (!match) return undefined
    // HEAD is GET without its body (RFC 9110 §9.3.2).
    const name = method === 'HEAD' ? 'get' : method.toLowerCase()
    return { template: match.template, operation: document.paths[match.template]?.[name] }
  }

  function violationsOf({ method, path, status, headers, body }: ObservedAnswer): string[] {
    const found = find(method, path)
    const type = headers.get('content-type')?.replace(/;.*$/s, '')
    if (method === 'OPTIONS' && status === 204) return []
    if (!found?.operation) {
      if (status !== (found ? 405 : 404))
        return [`${found ? 'has no such method' : 'is no path'} of the document`]
      // Of a path that is none, nobody knows whose it would be.
      return found && isOfOAuth(document, found.template)
        ? errorViolations('application/json', OAUTH_ERROR, { type, body, method })
        : errorViolations('application/problem+json', PROBLEM, { type, body, method })
    }
    const response = found.operation.responses[status]
    if (!response) return [`the status ${status} is not documented`]
    const broken: string[] = []
    for (const [field, described] of Object.entries(response.headers)) {
      const resolved = '$ref' in described ? document.components.headers[field] : described
      if (resolved && 'required' in resolved && resolved.required && !headers.has(field))
        broken.push(`has no ${field}`)
    }
    const documented = Object.keys(response.content ?? {})
    if (documented.length === 0) {
      if (body) broken.push('has a body, and none is documented')
      return broken
    }
    const range = documented.find(
      (each) => each === type || (each.endsWith('/*') && type?.startsWith(each.slice(0, -1))),
    )
    if (range === undefined) return [...broken, `the media type ${type} is not documented`]
    if (method === 'HEAD' || body === undefined) return broken
    const media = response.content?.[range]
    if (!media?.schema) return broken
    const ofBody = bodyViolations(media.schema, body)
    return [...broken, ...(ofBody.length > 0 ? ofBody : codeViolations(response, range, body))]
  }

  function errorViolations(
    expected: string,
    schema: JsonSchema,
    { type, body, method }: { type: string | undefined; body: string | undefined; method: string },
  ): string[] {
    if (type !== expected) return [`the media type ${type} is not that of its errors, ${expected}`]
    return method === 'HEAD' ? [] : bodyViolations(schema, body ?? '')
  }

  function bodyViolations(schema: JsonSchema, body: string): string[] {
    let value: unknown
    try {
      value = JSON.parse(body)
    } catch {
      return ['the body is not JSON']
    }
    const validate = validatorOf(schema)
    if (validate(value)) return []
    return (validate.errors ?? []).map(
      ({ instancePath, message, params }) => `the body${instancePath} ${message} ${JSON.stringify(params)}`,
    )
  }

  return { violationsOf, find }
}

/** A path has many spellings; as the router reads it. */
function decoded(path: string): string {
  try {
    return decodeURI(path)
  } catch {
    return path
  }
}

/** Whether what the path refuses is refused as OAuth does (RFC 6749 §5.2). */
const isOfOAuth = (document: OpenApiDocument, template: string): boolean =>
  Object.values(document.paths[template] ?? {})
    .flatMap(({ responses }) => Object.values(responses))
    .flatMap(({ content }) => Object.values(content ?? {}))
    .some(({ schema }) => schema?.$ref === OAUTH_ERROR.$ref)

/** Of a refusal, the code is one that the operation lists. */
function codeViolations(response: OpenApiResponse, range: string, body: string): string[] {
  const { examples } = response.content?.[range] ?? {}
  if (!examples) return []
  const { error } = JSON.parse(body)
  const code = typeof error === 'string' ? error : error?.code
  return code in examples ? [] : [`the error ${code} is not documented`]
}

function createAjv(document: OpenApiDocument): Ajv2020 {
  // A type that is a list (with null) is how OpenAPI 3.1 says what may be null.
  const ajv = new Ajv2020({ strict: true, strictRequired: false, allowUnionTypes: true, allErrors: true })
  formats.default(ajv)
  ajv.addSchema({ $id: COMPONENTS, $defs: toStrict(document.components.schemas) })
  return ajv
}

const PROBLEM: JsonSchema = { $ref: '#/components/schemas/Problem' }
const OAUTH_ERROR: JsonSchema = { $ref: '#/components/schemas/OAuthError' }
const COMPONENTS = 'https://signet.test/components'

/**
 * Stricter than the document, which lets answers gain members: an answer of ours has none that is not documented. What
 * may have others says so itself (`additionalProperties`).
 */
const toStrict = <Part extends object>(part: Part): Part =>
  JSON.parse(JSON.stringify(part), (name, value) => {
    if (name === '$ref') return value.replace('#/components/schemas/', `${COMPONENTS}#/$defs/`)
    return isOpen(value) ? { ...value, additionalProperties: false } : value
  })

const isOpen = (value: JsonSchema | null): boolean =>
  typeof value === 'object' &&
  value !== null &&
  value.type === 'object' &&
  value.properties !== undefined &&
  value.additionalProperties === undefined
