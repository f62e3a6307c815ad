/** A56: what callers send cannot forge a line of the log, nor steer the terminal of who reads it. */
import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { apiOfOperator, createTenant } from '../support/management.ts'
import { mint, rawRequest, tokenBody } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService({ logLevel: 'trace' })
const operator = await apiOfOperator(service)

/** A forged line, a screen cleared, a title set, a bell, what ends a line elsewhere, and lone halves of characters. */
const NASTY = [
  'Acme\r\n{"level":60,"msg":"forged"}',
  'Acme\u001b[2J\u001b]0;owned\u0007',
  'Acme\u0000\u0008\u007f\u0085\u009b31m',
  'Acme\t',
  'Acme\u2028\u2029{"level":60}',
  'Acme\ud800',
]
/** All but what no reader takes for more than a strange character. */
const hasControl = (text: string) => /[\p{Cc}\p{Cs}]/u.test(text)

test('A56 a name with control characters is refused, and one that only looks strange is kept as it is', async () => {
  for (const name of NASTY) {
    const answer = await operator.post('/v2/organizations', { name })
    if (hasControl(name)) {
      expect(answer.status).toBe(400)
      expect(answer.body).toMatchObject({
        error: { code: 'invalid_request' },
        errors: [{ pointer: '/name', detail: 'must hold no control characters and no lone surrogates' }],
      })
      expect(answer.text).not.toContain('Acme')
    } else if (/[\u2028\u2029\u202a-\u202e\u2066-\u2069]/.test(name)) expect(answer.status).toBe(400)
    else expect(answer.body).toMatchObject({ name })
  }
  const rows = await database.sql<{ name: string }[]>`select name from organizations`
  expect(rows.filter(({ name }) => hasControl(name))).toEqual([])
})

test('A56 every line of the log is one JSON object without a raw control character', async () => {
  const client = await seedClient(database.sql)
  const tenant = await createTenant(service, database.sql)
  for (const text of NASTY) {
    const inQuery = encodeURIComponent(text.toWellFormed())
    const headers = [
      ['User-Agent', inHeader(text)],
      ['Referer', inHeader(text)],
      ['X-Request-Id', inHeader(text)],
      ['Origin', inHeader(text)],
      ['Content-Type', 'application/json'],
    ] as const
    for (const [method, path, key] of [
      ['POST', `/v2/auth/token?${inQuery}`, client.key],
      ['POST', `/v2/${inQuery}`, client.key],
      ['GET', `/v2/organizations/${inQuery}`, tenant.api.token],
      ['GET', `/v2/audit-events?action=${inQuery}&${inQuery}=1`, tenant.api.token],
      ['GET', `/v2/tokens?cursor=${inQuery}`, tenant.api.token],
      ['PATCH', `/v2/organizations/${tenant.client.organizationId}`, tenant.api.token],
      ['GET', `/errors/${inQuery}`, inHeader(text)],
    ] as const)
      await rawRequest(service.url, {
        method,
        path,
        headers: [['Authorization', `Bearer ${key}`], ...headers],
        ...(method === 'GET' ? {} : { body: JSON.stringify({ name: text, [text]: text }) }),
      })
    await mint(service.url, client, { body: { ...tokenBody(client), [text]: text } })
    await mint(service.url, { ...client, organizationId: text, scopes: [text] })
  }
  // Bytes that no client library would send: in the path, the query and the headers.
  for (const path of ['/v2/\x1b[2J', '/v2/tokens?\x9b31m', '/livez\x00'])
    await sendBytes(
      `GET ${path} HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b[31m\x9b\r\nConnection: close\r\n\r\n`,
    )
  // And an error that is logged with all it has.
  await database.sql.unsafe(`
    create function refuse_name() returns trigger language plpgsql as
      $$ begin raise exception using message = new.name || E'\\n{"level":60}\\u001b[2J', detail = E'\\r\\n'; end $$;
    create trigger refuse_name before update on organizations for each row execute function refuse_name()`)
  const failed = await tenant.api.patch(`/v2/organizations/${tenant.client.organizationId}`, { name: 'Any' })
  await database.sql.unsafe('drop function refuse_name cascade')
  expect(failed.status).toBe(500)

  expect(service.logs.length).toBeGreaterThan(60)
  expect(service.logs.some((line) => line.includes('unexpected error'))).toBe(true)
  for (const line of service.logs) {
    expect(line.endsWith('\n')).toBe(true)
    const text = line.slice(0, -1)
    expect(text).not.toMatch(/\p{Cc}/u)
    const { level } = JSON.parse(text)
    expect(level).toBeLessThan(60)
  }
})

/** What Node lets through as it is: no control characters but tab. */
const inHeader = (text: string) => text.replace(/[^\t\x20-\x7e\x80-\xff]/g, '?')

function sendBytes(request: string): Promise<void> {
  const { hostname, port } = new URL(service.url)
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => socket.end(Buffer.from(request, 'latin1')))
    socket.on('data', () => {})
    socket.on('error', () => {})
    socket.on('close', () => resolve())
  })
}
