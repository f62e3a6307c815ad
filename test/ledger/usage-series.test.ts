/** Usage over the management API: series of buckets, ready to be drawn. */
import { expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { createCursors } from '../../src/management/cursor.ts'
import { apiOfOperator, createTenant } from '../support/management.ts'
import { mint, untilMinuteHasLeft } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { KEY_ENCRYPTION_KEY, setUpService, startService } from '../support/service.ts'

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const tenant = await createTenant(service, database.sql)
const other = await createTenant(service, database.sql)

type Counts = { admitted: number; limited: number; denied: number }
type Usage = {
  client_id: string
  client_name: string
  organization_id: string
  bucket: string
  totals: Counts
  buckets: (Counts & { start: string })[]
}
type Page = { data: Usage[]; next_cursor: string | null }
const list = async (api: typeof operator, query: string) =>
  (await api.get<Page>(`/v2/usage?${query}`)).body.data

async function newClient(counted: Record<string, [admitted: number, limited: number, denied: number]> = {}) {
  const client = await seedClient(database.sql, { organizationId: tenant.client.organizationId })
  for (const [minute, [admitted, limited, denied]] of Object.entries(counted))
    await database.sql`insert into usage_minutes (client_id, window_start, admitted, limited, denied)
      values (${client.clientId}, ${minute}, ${admitted}, ${limited}, ${denied})`
  return client
}

test('minutes add up to the buckets asked for, from border to border, with zeros where there was nothing', async () => {
  const { clientId } = await newClient({
    '2026-03-01T09:59:00Z': [100, 0, 0],
    '2026-03-01T10:00:00Z': [1, 2, 3],
    '2026-03-01T10:59:00Z': [10, 20, 30],
    '2026-03-01T12:30:00Z': [5, 0, 0],
    '2026-03-01T13:00:00Z': [100, 0, 0],
  })
  const zero = { admitted: 0, limited: 0, denied: 0 }
  expect(
    await list(tenant.api, `client_id=${clientId}&from=2026-03-01T10:20:00Z&to=2026-03-01T12:31:00Z`),
  ).toEqual([
    {
      client_id: clientId,
      client_name: 'Integration',
      organization_id: tenant.client.organizationId,
      bucket: 'hour',
      totals: { admitted: 16, limited: 22, denied: 33 },
      buckets: [
        { start: '2026-03-01T10:00:00.000Z', admitted: 11, limited: 22, denied: 33 },
        { start: '2026-03-01T11:00:00.000Z', ...zero },
        { start: '2026-03-01T12:00:00.000Z', ...zero, admitted: 5 },
      ],
    },
  ])
  const query = `client_id=${clientId}&from=2026-03-01T00:00:00%2B02:00&to=2026-03-02T00:00:00Z`
  expect((await list(tenant.api, `${query}&bucket=day`))[0]?.buckets).toEqual([
    { start: '2026-02-28T00:00:00.000Z', ...zero },
    { start: '2026-03-01T00:00:00.000Z', admitted: 216, limited: 22, denied: 33 },
  ])
  const [minutes] = await list(
    tenant.api,
    `client_id=${clientId}&bucket=minute&from=2026-03-01T09:59:30Z&to=2026-03-01T10:01:00Z`,
  )
  expect(minutes?.buckets).toEqual([
    { start: '2026-03-01T09:59:00.000Z', ...zero, admitted: 100 },
    { start: '2026-03-01T10:00:00.000Z', admitted: 1, limited: 2, denied: 3 },
  ])
})

test.for([
  ['minute', 60, 60_000],
  ['hour', 24, 3_600_000],
  ['day', 30, 86_400_000],
] as const)(
  'without from and to, %s shows the last %i, the running one included',
  async ([bucket, count, step]) => {
    const { clientId } = await newClient()
    await untilMinuteHasLeft(database.sql, 2)
    await database.sql`insert into usage_minutes (client_id, window_start, admitted)
    values (${clientId}, date_trunc('minute', now()), 7)`
    const [usage] = await list(tenant.api, `client_id=${clientId}&bucket=${bucket}`)
    expect(usage?.buckets).toHaveLength(count)
    const starts = usage?.buckets.map(({ start }) => Date.parse(start)) ?? []
    expect(starts).toEqual(starts.map((_, i) => (starts[0] ?? 0) + i * step))
    expect((starts.at(-1) ?? 1) % step).toBe(0)
    expect(usage?.buckets.at(-1)).toMatchObject({ admitted: 7 })
  },
)

test('what is minted and refused shows up: admitted, limited, denied', async () => {
  const instance = await startService(database)
  const client = await seedClient(database.sql, {
    organizationId: tenant.client.organizationId,
    rateLimitPerMinute: 3,
  })
  await untilMinuteHasLeft(database.sql, 10)
  // First: who has used up the window learns nothing but that.
  for (let i = 0; i < 4; i++) await mint(instance.url, { ...client, scopes: ['not:granted'] })
  for (let i = 0; i < 5; i++) await mint(instance.url, client)
  await instance.stop()
  const [usage] = await list(tenant.api, `client_id=${client.clientId}&bucket=minute`)
  expect(usage?.totals).toEqual({ admitted: 3, limited: 2, denied: 4 })
})

test('A17 a tenant sees its own clients’ usage; another’s is like nobody’s', async () => {
  await newClient({ '2026-03-01T10:00:00Z': [1, 0, 0] })
  const series = 'from=2026-03-01T10:00:00Z&to=2026-03-01T11:00:00Z&limit=100'
  const own = await list(tenant.api, series)
  expect(new Set(own.map((usage) => usage.organization_id))).toEqual(new Set([tenant.client.organizationId]))
  for (const query of [
    `client_id=${tenant.client.clientId}`,
    `client_id=${newId('client')}`,
    `organization_id=${tenant.client.organizationId}`,
    `organization_id=${newId('organization')}`,
    `organization_id=${tenant.client.organizationId}&client_id=${tenant.client.clientId}`,
  ])
    expect((await other.api.get(`/v2/usage?${query}`)).text).toBe('{"data":[],"next_cursor":null}')
  expect(await list(operator, `${series}&organization_id=${tenant.client.organizationId}`)).toEqual(own)
  const all = await list(operator, series)
  expect(all.map((usage) => usage.client_id)).toContain(other.client.clientId)
})

test('pages go on with the next client and the same series', async () => {
  for (let i = 0; i < 3; i++) await newClient()
  const all = await list(tenant.api, 'bucket=minute&limit=100')
  const seen: Usage[] = []
  let cursor: string | null = null
  do {
    const page: Page = (
      await tenant.api.get<Page>(`/v2/usage?bucket=minute&limit=2${cursor ? `&cursor=${cursor}` : ''}`)
    ).body
    seen.push(...page.data)
    cursor = page.next_cursor
  } while (cursor)
  expect(seen.map((usage) => usage.client_id)).toEqual(all.map((usage) => usage.client_id))
  const starts = seen.map((usage) => usage.buckets[0]?.start)
  expect(new Set(starts).size).toBe(1)
})

test('a page that is asked for later shows the minutes of the page before', async () => {
  const { organizationId } = tenant.client
  const list = { organizationId, path: '/v2/usage', filters: { bucket: 'minute' } }
  const position = `${newId('client')} 2026-03-01T10:00:00.000Z 60`
  const cursor = createCursors([KEY_ENCRYPTION_KEY]).make(position, list)
  const { body } = await tenant.api.get<Page>(`/v2/usage?bucket=minute&cursor=${cursor}`)
  const starts = body.data[0]?.buckets.map(({ start }) => start) ?? []
  expect([starts.length, starts[0], starts.at(-1)]).toEqual([
    60,
    '2026-03-01T10:00:00.000Z',
    '2026-03-01T10:59:00.000Z',
  ])
})

test.for([
  ['from=2026-03-01T10:00:00Z&to=2026-03-01T10:00:00Z', '/to'],
  ['from=2026-03-01T11:00:00Z&to=2026-03-01T10:00:00Z', '/to'],
  ['from=2999-01-01T00:00:00Z', '/from'],
  ['bucket=minute&from=2026-03-01T00:00:00Z&to=2026-03-02T01:01:00Z', '/from'],
  ['bucket=minute&from=2026-03-01T00:00:00Z&to=2026-03-02T01:00:00Z&limit=21', '/limit'],
  ['bucket=day&limit=24', '/limit'],
  ['bucket=week', '/bucket'],
  ['from=yesterday', '/from'],
  ['from=9999-12-31T20:00:00Z&to=9999-12-31T23:59:00Z', '/to'],
  ['from=0001-01-01T00:00:00Z', '/from'],
])('%s is refused at %s', async ([query, pointer]) => {
  const answer = await tenant.api.get(`/v2/usage?${query}`)
  expect(answer.status).toBe(400)
  expect(answer.body).toMatchObject({ error: { code: 'invalid_request' }, errors: [{ pointer }] })
})

test('a time of which nothing is known shows zeros', async () => {
  const { clientId } = await newClient()
  for (const year of ['1971', '9998']) {
    const [usage] = await list(
      tenant.api,
      `client_id=${clientId}&from=${year}-01-01T00:00:00Z&to=${year}-01-01T02:00:00Z`,
    )
    expect(usage?.totals).toEqual({ admitted: 0, limited: 0, denied: 0 })
    expect(usage?.buckets.map(({ start }) => start)).toEqual([
      `${year}-01-01T00:00:00.000Z`,
      `${year}-01-01T01:00:00.000Z`,
    ])
  }
})

test('of one client, the whole of what is kept is answered', async () => {
  const { clientId } = await newClient()
  const from = new Date(Date.now() - 90 * 86_400_000).toISOString()
  const [usage] = await list(tenant.api, `client_id=${clientId}&bucket=day&from=${from}&limit=100`)
  expect(usage?.buckets).toHaveLength(91)
})

test('the longest series of the largest page that is allowed is answered', async () => {
  const [usage] = await list(
    tenant.api,
    'bucket=minute&from=2026-03-01T00:00:00Z&to=2026-03-02T01:00:00Z&limit=20',
  )
  expect(usage?.buckets).toHaveLength(1500)
})
