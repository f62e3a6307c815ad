/** The files that the service shows of itself, by path. */

import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { OpenApiDocument } from '../http/openapi.ts'
import { INFO, SUMMARY } from './about.ts'
import { toMarkdown } from './markdown.ts'
import { REFERENCE_PAGE, readReferenceFiles } from './reference.ts'

export type DocumentFile = { type: string; text: string; etag: string }

/** Of the folder docs: what stands under which name, and what it is about. */
const GUIDES = {
  'management.md': [
    'Management',
    'organizations, clients, keys, delegations: how they are managed and why so',
  ],
  'oauth.md': ['OAuth', 'both issuers for OAuth clients and gateways: tokens, introspection, revocation'],
  'http-api.md': ['HTTP API', 'the exchange, errors and the format of keys, in prose'],
  'revocation-feed.md': ['Revocation feed', 'how verifiers learn of revocations: format, bounds, code'],
  'operations.md': ['Operations', 'configuration, databases, keys and limits, for who runs it'],
  'architecture.md': ['Architecture', 'how it keeps its promises'],
} as const

/** Whose name the guides use. */
const DEFAULT_ISSUER = 'http://localhost:8787'
const MARKDOWN = 'text/markdown; charset=utf-8'

/** What `/docs/{name}` knows, beside what is made from the operations. */
export const FILE_NAMES: readonly string[] = [
  'api.md',
  ...Object.keys(GUIDES),
  'reference.css',
  'reference.js',
  'swagger-ui.css',
  'swagger-ui-bundle.js',
]

/**
 * By path. The files of packages and of the folder docs are read now; the document is made when it is first asked for.
 */
export function createDocumentFiles(
  document: () => OpenApiDocument,
  issuer: string,
): (path: string) => DocumentFile | undefined {
  const made = new Map<string, DocumentFile>()
  const makers = new Map<string, () => { type: string; text: string }>([
    ['/openapi.json', () => ({ type: 'application/json', text: JSON.stringify(document()) })],
    ['/llms.txt', () => ({ type: MARKDOWN, text: llmsText(issuer) })],
    ['/docs', () => ({ type: 'text/html; charset=utf-8', text: REFERENCE_PAGE })],
    ['/docs/api.md', () => ({ type: MARKDOWN, text: toMarkdown(document(), INFO) })],
  ])
  for (const name of Object.keys(GUIDES)) {
    const written = readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8')
    const text = withoutDeadLinks(written).replaceAll(DEFAULT_ISSUER, () => issuer)
    makers.set(`/docs/${name}`, () => ({ type: MARKDOWN, text }))
  }
  for (const [name, file] of Object.entries(readReferenceFiles())) makers.set(`/docs/${name}`, () => file)

  return (path) => {
    const known = made.get(path)
    if (known) return known
    const make = makers.get(path)
    if (!make) return undefined
    const { type, text } = make()
    const file = { type, text, etag: `"${hash('sha256', text, 'base64url')}"` }
    made.set(path, file)
    return file
  }
}

/** A link to a file that is not served here leads nowhere: its text stays. */
const withoutDeadLinks = (markdown: string): string =>
  markdown.replace(/\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)/g, (link, text, target) =>
    Object.keys(GUIDES).includes(target.replace(/#.*$/, '')) ? link : text,
  )

/** https://llmstxt.org: a heading, what it is, and where to read on. */
function llmsText(issuer: string): string {
  const guides = Object.entries(GUIDES).map(
    ([name, [title, note]]) => `- [${title}](${issuer}/docs/${name}): ${note}`,
  )
  return `# ${INFO.title}

> ${SUMMARY}

A key of a client authenticates \`POST /v2/auth/token\`, which answers with an access token (RFC 9068, a JWT); OAuth
clients use \`POST /oauth2/token\`. Any API verifies it offline with the key set of its issuer. Tokens with management scopes (\`signet:…\`) authenticate the
management API under \`/v2\`.

## API

- [API reference](${issuer}/docs/api.md): every operation with its scope, parameters, body, answers and errors
- [OpenAPI 3.1 document](${issuer}/openapi.json): the same for programs
- [Key set, production](${issuer}/.well-known/jwks.json): verifies production tokens
- [Key set, sandbox](${issuer}/sandbox/.well-known/jwks.json): verifies sandbox tokens
- [Metadata, production](${issuer}/.well-known/oauth-authorization-server): the OAuth endpoints of the production issuer
- [Metadata, sandbox](${issuer}/.well-known/oauth-authorization-server/sandbox): those of the sandbox issuer
- [Revocation feed, production](${issuer}/oauth2/revocations): what verifiers must refuse before it expires, as a signed JWT
- [Revocation feed, sandbox](${issuer}/sandbox/oauth2/revocations): the same for the sandbox

## Guides

${guides.join('\n')}

## Optional

- [Interactive reference](${issuer}/docs): for people with a browser
`
}
