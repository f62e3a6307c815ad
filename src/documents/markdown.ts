/** The OpenAPI document as Markdown: the same reference for those who read text, people and programs. */
import type { JsonSchema } from '../http/json-schema.ts'
import type { OpenApiDocument, OpenApiOperation, OpenApiResponse } from '../http/openapi.ts'

const FORM = 'application/x-www-form-urlencoded'

type About = { title: string; version: string; summary: string; description: string }

export function toMarkdown(
  document: OpenApiDocument,
  { title, version, summary, description }: About,
): string {
  const operations = Object.entries(document.paths).flatMap(([path, ofPath]) =>
    Object.entries(ofPath).map(([method, operation]) => ({
      path,
      method: method.toUpperCase(),
      operation,
    })),
  )
  const sections = document.tags.map((tag) => {
    const ofTag = operations.filter(({ operation }) => operation.tags.includes(tag.name))
    const parts = ofTag.map((each) => describe(each.method, each.path, each.operation))
    return joined(`## ${tag.name}`, tag.description, ...parts)
  })
  const resources = Object.entries(document.components.schemas).map(([name, schema]) =>
    joined(`### ${name}`, schema.description, membersOf(schema)),
  )
  return `${joined(
    `# ${title} ${version}: API reference`,
    summary,
    description,
    `Base URL: \`${document.servers[0]?.url}\``,
    ...sections,
    '## Resources',
    ...resources,
  )}\n`
}

function describe(method: string, path: string, operation: OpenApiOperation): string {
  const { summary, description, parameters = [], requestBody, responses, security } = operation
  const rows = parameters.map(({ name, in: place, required, schema, description: text }) => [
    `\`${name}\``,
    place,
    required ? 'yes' : 'no',
    typeOf(schema),
    [text, restrictionsOf(schema)].filter(Boolean).join(' '),
  ])
  const [[type, body] = []] = Object.entries(requestBody?.content ?? {})
  return joined(
    `### ${method} ${path}`,
    `${summary}. ${authenticationOf(security)}`,
    description,
    rows.length > 0 && table(['parameter', 'in', 'required', 'type', ''], rows),
    body &&
      joined(
        `Body (\`${type}\`${requestBody?.required ? '' : ', may be left out'}):`,
        body.schema && membersOf(body.schema),
        type === FORM ? formFence(body.example) : fence(body.example),
      ),
    table(
      ['status', 'body', ''],
      Object.entries(responses).map(([status, response]) => [
        status,
        contentOf(response),
        oneLine(response.description),
      ]),
    ),
    exampleOfSuccess(responses),
  )
}

function authenticationOf(security: OpenApiOperation['security']): string {
  if (security.length === 0) return 'No authentication.'
  const ofAny = (name: string) => security.some((scheme) => name in scheme)
  if (ofAny('client'))
    return 'Authenticated by a client: `client_secret_basic`, `client_secret_post` or `private_key_jwt`.'
  return ofAny('key') ? 'Authenticated by a key.' : 'Authenticated by an access token.'
}

const contentOf = ({ content = {} }: OpenApiResponse): string =>
  Object.entries(content)
    .map(([type, { schema }]) => (schema?.$ref ? `${nameOf(schema.$ref)} (\`${type}\`)` : `\`${type}\``))
    .join(' or ')

function exampleOfSuccess(responses: OpenApiOperation['responses']): string | undefined {
  const [status, response] = Object.entries(responses).find(([each]) => each.startsWith('2')) ?? []
  const example = Object.values(response?.content ?? {}).find((media) => media.example !== undefined)?.example
  return typeof example === 'object' ? joined(`Example of ${status}:`, fence(example)) : undefined
}

function membersOf(schema: JsonSchema): string | undefined {
  const rows = rowsOf(schema, '')
  return rows.length > 0 ? table(['member', 'type', ''], rows) : undefined
}

/** Of each member, and of the members within it: `scopes.scopes`, `data[].id`. */
function rowsOf({ properties = {}, required = [] }: JsonSchema, prefix: string): string[][] {
  return Object.entries(properties).flatMap(([name, schema]) => {
    const path = `${prefix}${name}`
    const text = [schema.description, restrictionsOf(schema)].filter(Boolean).join(' ')
    return [
      [required.includes(name) ? `\`${path}\`` : `\`${path}\` (optional)`, typeOf(schema), text],
      ...rowsOf(schema, `${path}.`),
      ...(schema.items ? rowsOf(schema.items, `${path}[].`) : []),
    ]
  })
}

function typeOf(schema: JsonSchema): string {
  if (schema.$ref) return nameOf(schema.$ref)
  const options = schema.anyOf ?? schema.oneOf
  if (options) return options.map(typeOf).join(' or ')
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(', ')
  const types = [schema.type ?? 'any'].flat()
  return types
    .map((type) => (type === 'array' && schema.items ? `array of ${typeOf(schema.items)}` : type))
    .join(' or ')
}

function restrictionsOf({
  minimum,
  maximum,
  minLength,
  maxLength,
  format,
  default: usual,
}: JsonSchema): string {
  const parts = [
    format,
    minimum !== undefined && maximum !== undefined ? `${minimum} to ${maximum}` : undefined,
    minimum !== undefined && maximum === undefined ? `at least ${minimum}` : undefined,
    maximum !== undefined && minimum === undefined ? `at most ${maximum}` : undefined,
    maxLength !== undefined ? `${minLength ?? 0} to ${maxLength} characters` : undefined,
    usual === undefined ? undefined : `default ${JSON.stringify(usual)}`,
  ].filter(Boolean)
  return parts.length > 0 ? `(${parts.join('; ')})` : ''
}

const nameOf = (reference: string): string => reference.split('/').at(-1) ?? reference
const oneLine = (text: string): string => text.replace(/\s+/g, ' ')
const cell = (text: string): string => oneLine(text).replaceAll('|', '\\|')
const row = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n')
const fence = (value: unknown): string => `\`\`\`json\n${JSON.stringify(value, undefined, 2)}\n\`\`\``
/** One parameter a line; a list is a parameter that stands several times. */
const formFence = (value: unknown): string => {
  const pairs = Object.entries(value ?? {}).flatMap(([name, values]) =>
    [values].flat().map((each) => new URLSearchParams({ [name]: String(each) }).toString()),
  )
  return `\`\`\`\n${pairs.join('\n&')}\n\`\`\``
}
const joined = (...parts: readonly (string | undefined | false)[]): string =>
  parts.filter(Boolean).join('\n\n')
