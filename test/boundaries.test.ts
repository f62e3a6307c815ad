/** The layout of design §7: imports only point down, and a few things live in few places. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const SRC = fileURLToPath(new URL('../src', import.meta.url))

/** From the top down. What stands in one line may not import each other. */
const LAYERS = [
  ['main', 'cli'],
  ['supervisor'],
  ['serve'],
  ['compose'],
  ['app', 'bootstrap', 'pools', 'housekeeping', 'operations'],
  ['dashboard', 'documents', 'readiness'],
  ['oauth'],
  ['exchange'],
  ['tokens'],
  ['keys', 'clients', 'organizations', 'delegations', 'webhooks'],
  ['ledger', 'signing', 'network', 'jobs'],
  ['audit'],
  ['management'],
  ['database', 'http'],
  ['errors', 'ids', 'clock', 'config'],
]

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => ({ path, text: readFileSync(join(SRC, path), 'utf8') }))

/** The folder in src, or the name of a file right there. */
const unitOf = (path: string) => path.split('/')[0]?.replace(/\.ts$/, '') ?? ''
const layerOf = (unit: string) => LAYERS.findIndex((layer) => layer.includes(unit))
const importsOf = (text: string) =>
  [...text.matchAll(/(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g)].map(([, name]) => name ?? '')

const violators = (rule: (path: string, text: string) => boolean) =>
  files.filter(({ path, text }) => rule(path, text)).map(({ path }) => path)

test('every folder and file of src has a layer', () => {
  expect(files.length).toBeGreaterThan(30)
  expect(violators((path) => layerOf(unitOf(path)) === -1)).toEqual([])
})

test('imports only point down, and siblings never import each other', () => {
  const upward = files.flatMap(({ path, text }) =>
    importsOf(text)
      .filter((name) => name.startsWith('.'))
      .map((name) => relative('.', normalize(join(dirname(path), name))))
      .filter((target) => unitOf(target) !== unitOf(path) && layerOf(unitOf(target)) <= layerOf(unitOf(path)))
      .map((target) => `${path} → ${target}`),
  )
  expect(upward).toEqual([])
})

test('only routes, oauth, http, network, dashboard and app import Hono', () => {
  const allowed = /(^|\/)routes\.ts$|^(oauth|http|network|dashboard)\/|^app\.ts$/
  expect(
    violators(
      (path, text) => importsOf(text).some((name) => /^@?hono(\/|$)/.test(name)) && !allowed.test(path),
    ),
  ).toEqual([])
})

test('only stores, the admission, audit and database hold SQL', () => {
  const allowed = /(^|\/)store\.ts$|^ledger\/admission\.ts$|^(audit|database)\//
  const hasSql = /from ['"](drizzle-orm|postgres)(\/|['"])|\$client\b/
  expect(violators((path, text) => hasSql.test(text) && !allowed.test(path))).toEqual([])
})

test('only main and cli touch the process; the embedded server may ask who it runs as', () => {
  const allowed = /^main\.ts$|^cli\/|^database\/embedded/
  expect(violators((path, text) => /\bprocess\.\w|node:process/.test(text) && !allowed.test(path))).toEqual(
    [],
  )
  expect(
    violators(
      (path, text) => /\bprocess\.env\b/.test(text) && path !== 'main.ts' && !path.startsWith('cli/'),
    ),
  ).toEqual([])
})

test('the SDK imports nothing of src, and no module of Node', () => {
  const sdk = fileURLToPath(new URL('../sdk/src', import.meta.url))
  for (const path of readdirSync(sdk, { encoding: 'utf8' }))
    for (const name of importsOf(readFileSync(join(sdk, path), 'utf8')))
      expect(name).toMatch(/^(\.\/[\w-]+\.ts|jose)$/)
})

test('a file is split before it passes about 300 lines', () => {
  expect(violators((_, text) => text.split('\n').length > 310)).toEqual([])
})
