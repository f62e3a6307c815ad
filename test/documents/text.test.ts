/** The reference as text: /llms.txt and the Markdown pages. */
import { expect, test } from 'vitest'
import type { OpenApiDocument } from '../../src/http/openapi.ts'
import { ISSUER, setUpService } from '../support/service.ts'

const { service } = await setUpService()
const get = (path: string) => fetch(service.url + path)

const linksOf = (markdown: string) =>
  [...markdown.matchAll(/\[[^\]]+\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)

test('llms.txt has the form of llmstxt.org: a title, a summary, sections of links', async () => {
  const response = await get('/llms.txt')
  expect(response.headers.get('content-type')).toBe('text/markdown; charset=utf-8')
  const text = await response.text()
  expect(text).toMatch(/^# Signet\n\n> .+\n/)
  expect(text.match(/^# /gm)).toHaveLength(1)
  const sections = text.split(/^## /m).slice(1)
  expect(sections.map((section) => section.split('\n')[0])).toEqual(['API', 'Guides', 'Optional'])
  for (const section of sections)
    for (const line of section.split('\n').slice(1).filter(Boolean))
      expect(line).toMatch(/^- \[.+\]\(\S+\): .+$/)
})

test('its links lead somewhere, and so do those of the pages it leads to', async () => {
  const seen = new Set<string>()
  const follow = async (path: string): Promise<void> => {
    if (seen.has(path)) return
    seen.add(path)
    const response = await get(path)
    const text = await response.text()
    expect(response.status, path).toBe(200)
    if (!response.headers.get('content-type')?.startsWith('text/markdown')) return
    for (const link of linksOf(text)) {
      const target = new URL(link.replace(ISSUER, service.url), service.url + path)
      if (target.origin === service.url && target.pathname !== path) await follow(target.pathname)
    }
  }
  await follow('/llms.txt')
  expect(seen).toContain('/docs/api.md')
  expect(seen).toContain('/docs/management.md')
  expect(seen.size).toBeGreaterThan(8)
})

test('api.md has every operation with its scope, its parameters and its errors', async () => {
  const document = (await (await get('/openapi.json')).json()) as OpenApiDocument
  const text = await (await get('/docs/api.md')).text()
  for (const [path, ofPath] of Object.entries(document.paths))
    for (const [method, operation] of Object.entries(ofPath)) {
      const heading = `### ${method.toUpperCase()} ${path}\n`
      expect(text).toContain(heading)
      const section = text.slice(text.indexOf(heading)).split(/\n##+ /)[0] ?? ''
      for (const name of [
        ...(operation.parameters ?? []).map((parameter) => parameter.name),
        ...(operation.security[0]?.access_token ?? []),
      ])
        expect(section, heading).toContain(`\`${name}\``)
      for (const status of Object.keys(operation.responses)) expect(section).toContain(`| ${status} |`)
    }
})

test('what is no page of the reference is a problem like any other', async () => {
  for (const path of [
    '/docs/',
    '/docs/nothing.md',
    '/docs/..%2Fpackage.json',
    '/docs/%2e%2e/package.json',
    '/docs/decisions',
  ]) {
    const response = await get(path)
    expect([response.status, response.headers.get('content-type')], path).toEqual([
      404,
      'application/problem+json',
    ])
  }
  expect((await fetch(`${service.url}/docs`, { method: 'POST' })).headers.get('allow')).toBe('GET, HEAD')
})
