/** `/docs` in a real browser, where there is one: it renders under its policy, and talks to nobody but this service. */
import { existsSync } from 'node:fs'
import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { OpenApiDocument } from '../../src/http/openapi.ts'
import { apiOfOperator } from '../support/management.ts'
import { setUpService } from '../support/service.ts'

const { service } = await setUpService()

test('the page and its parts bear the policy, and nothing in them loads from elsewhere', async () => {
  const page = await fetch(`${service.url}/docs`)
  const html = await page.text()
  expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
  const policy = page.headers.get('content-security-policy') ?? ''
  expect(policy).toContain("default-src 'none'")
  expect(policy).toContain("frame-ancestors 'none'")
  expect(policy).not.toContain('unsafe')
  expect(page.headers.get('x-content-type-options')).toBe('nosniff')
  expect(page.headers.get('referrer-policy')).toBe('no-referrer')
  const parts = [...html.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path = '']) => path)
  expect(parts.length).toBeGreaterThan(3)
  for (const path of parts) {
    const part = await fetch(service.url + path)
    expect([path, part.status]).toEqual([path, 200])
    expect(part.headers.get('cache-control')).toBe('public, max-age=300')
  }
  expect(html).not.toMatch(/https?:/)
  // No script and no style in the page itself.
  expect(html).not.toMatch(/<style|<script>|\s(style|on\w+)=/)
})

const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const executable = [process.env.CHROMIUM ?? '', ...BROWSERS].find((path) => path !== '' && existsSync(path))
if (!executable)
  console.warn(`no Chromium at ${BROWSERS.join(', ')} nor where CHROMIUM says: /docs is not looked at`)

describe.skipIf(!executable)('in Chromium', () => {
  let browser: Browser
  let page: Page
  const requested = new Set<string>()
  const complaints: string[] = []

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: executable ?? '', args: ['--no-sandbox'] })
    page = await browser.newPage({ viewport: { width: 1280, height: 1000 } })
    page.on('request', (request) => requested.add(new URL(request.url()).origin))
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
    })
    page.on('pageerror', (error) => complaints.push(String(error)))
    await page.goto(`${service.url}/docs`)
    await page.waitForSelector('.opblock')
  })
  afterAll(() => browser?.close())

  test('every operation is there', async () => {
    const document = (await (await fetch(`${service.url}/openapi.json`)).json()) as OpenApiDocument
    const expected = Object.entries(document.paths).flatMap(([path, ofPath]) =>
      Object.keys(ofPath).map((method) => `${method.toUpperCase()} ${path}`),
    )
    const shown = await page.locator('.opblock-summary').evaluateAll((each) =>
      each.map((summary) => {
        const text = (selector: string) => summary.querySelector(selector)?.textContent ?? ''
        return `${text('.opblock-summary-method')} ${text('.opblock-summary-path').replaceAll('\u200b', '')}`
      }),
    )
    expect(shown.sort()).toEqual(expected.sort())
  })

  test('an operation can be tried with an access token', async () => {
    const { token } = await apiOfOperator(service)
    await page.click('.auth-wrapper .authorize')
    await page.fill('#auth-bearer-value', token)
    await page.click('.modal-ux .auth-container:has(#auth-bearer-value) .authorize')
    await page.click('.modal-ux .close-modal')
    await page.click(
      '.opblock:has([data-path="/v2/organizations"].opblock-summary-path):has-text("GET") .opblock-summary-control',
    )
    await page.click('.opblock.is-open .execute')
    await page.waitForSelector('.live-responses-table tr.response .response-col_status')
    expect(
      await page.locator('.live-responses-table tr.response .response-col_status').first().textContent(),
    ).toContain('200')
    expect(await page.locator('.live-responses-table').textContent()).toContain('"next_cursor"')
  })

  test('nothing broke the policy, and nobody else was asked for anything', () => {
    expect(complaints).toEqual([])
    expect([...requested]).toEqual([service.url])
  })
})
