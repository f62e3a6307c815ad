/** `/openapi.json`, `/docs` and `/llms.txt`: the same reference for programs, for people and for models. */
import { type Context, Hono } from 'hono'
import * as v from 'valibot'
import { notFound } from '../errors.ts'
import type { Description } from '../http/description.ts'
import { matches } from '../http/etag.ts'
import { resource } from '../http/methods.ts'
import { buildOpenApi, type OpenApiDocument } from '../http/openapi.ts'
import type { RequestEnv } from '../http/request-context.ts'
import { INFO, TAGS } from './about.ts'
import { createDocumentFiles, FILE_NAMES } from './files.ts'
import { REFERENCE_POLICY } from './reference.ts'

const CACHE_CONTROL = 'public, max-age=300'

/** Mounts the documents of these routes and of its own. */
export function documentRoutes(options: {
  descriptions: readonly Description[]
  issuer: string
}): Hono<RequestEnv> {
  let built: OpenApiDocument | undefined
  const fileAt = createDocumentFiles(() => {
    built ??= buildOpenApi([...options.descriptions, ...documentDescriptions], {
      issuer: options.issuer,
      info: INFO,
      tags: TAGS,
    })
    return built
  }, options.issuer)

  const app = new Hono<RequestEnv>()
  for (const path of ['/openapi.json', '/llms.txt', '/docs', '/docs/:name'])
    resource(app, path, { GET: answer })
  return app

  function answer(c: Context<RequestEnv>): Response {
    const file = fileAt(c.req.path)
    if (!file) throw notFound()
    c.header('Cache-Control', CACHE_CONTROL)
    c.header('ETag', file.etag)
    c.header('Access-Control-Allow-Origin', '*')
    c.header('Content-Security-Policy', REFERENCE_POLICY)
    c.header('Referrer-Policy', 'no-referrer')
    if (matches(c.req.header('if-none-match'), file.etag)) return c.body(null, 304)
    return c.body(file.text, 200, { 'Content-Type': file.type })
  }
}

const FIELDS = { ETag: 'A strong tag of the content.', 'Cache-Control': 'How long it may be kept.' }
const UNCHANGED = { description: 'Unchanged since the `ETag` in `If-None-Match`.', headers: FIELDS }
const common = { method: 'GET', tag: 'Documents', security: 'none' } as const

const documentDescriptions: readonly Description[] = [
  {
    ...common,
    id: 'getOpenApi',
    path: '/openapi.json',
    summary: 'Read this document',
    description: 'OpenAPI 3.1, readable by pages of any origin.',
    answers: {
      200: {
        description: 'The document.',
        schema: v.looseObject({ openapi: v.literal('3.1.1') }),
        headers: FIELDS,
      },
      304: UNCHANGED,
    },
    errors: ['server_error'],
  },
  {
    ...common,
    id: 'getReference',
    path: '/docs',
    summary: 'Open the interactive reference',
    answers: {
      200: { description: 'A page, for browsers.', mediaType: 'text/html', headers: FIELDS },
      304: UNCHANGED,
    },
    errors: ['server_error'],
  },
  {
    ...common,
    id: 'getDocumentFile',
    path: '/docs/{name}',
    summary: 'Read a page as Markdown, or a part of the interactive reference',
    parameters: {
      name: v.pipe(v.picklist([...FILE_NAMES]), v.description('The file.')),
    },
    answers: {
      200: { description: 'The file.', mediaType: 'text/*', headers: FIELDS },
      304: UNCHANGED,
    },
    errors: ['not_found', 'server_error'],
  },
  {
    ...common,
    id: 'getLlmsText',
    path: '/llms.txt',
    summary: 'Read where a model finds what',
    description: 'As https://llmstxt.org describes it.',
    answers: {
      200: { description: 'Links to the pages, as Markdown.', mediaType: 'text/markdown', headers: FIELDS },
      304: UNCHANGED,
    },
    errors: ['server_error'],
  },
]
