/** Usage, over the management API: what was minted and refused, per client, in series that are ready to be drawn. */
import * as v from 'valibot'
import { brokenRule } from '../errors.ts'
import { list, type Operation } from '../management/operation.ts'
import { id, moment, timestamp } from '../management/wire.ts'
import { RETENTION_DAYS } from './retention.ts'
import { type ClientUsage, readUsage } from './store.ts'

const MINUTE = 60_000
/** How long a bucket is, in milliseconds, and how many make a series where nothing else is asked for. */
const BUCKETS = {
  minute: { milliseconds: MINUTE, count: 60 },
  hour: { milliseconds: 60 * MINUTE, count: 24 },
  day: { milliseconds: 24 * 60 * MINUTE, count: 30 },
} as const
type BucketName = keyof typeof BUCKETS
const NAMES = Object.keys(BUCKETS) as BucketName[]

/** A day of minutes fits, and two months of hours. */
const MAX_BUCKETS = 1500
/** RFC 3339 has no moment beyond. */
const LATEST = Date.UTC(9999, 11, 31)
/** In one answer, over all clients: about two megabytes. */
const MAX_BUCKETS_OF_PAGE = 30_000
/** Counts are kept by the minute; a million take the database about a second to add up. */
const MAX_MINUTES_OF_PAGE = 1_000_000

const count = () => v.pipe(v.number(), v.integer(), v.minValue(0))
const counts = {
  admitted: v.pipe(count(), v.description('Tokens minted.')),
  limited: v.pipe(count(), v.description('Exchanges refused because the client had used up its rate limit.')),
  denied: v.pipe(count(), v.description('Exchanges refused for what they asked for.')),
}

const Usage = v.pipe(
  v.strictObject({
    client_id: id('client'),
    client_name: v.string(),
    organization_id: v.pipe(id('organization'), v.description('Whose client it is.')),
    bucket: v.picklist(NAMES),
    totals: v.strictObject(counts),
    buckets: v.pipe(
      v.array(v.strictObject({ start: timestamp(), ...counts })),
      v.description('The oldest first, without a gap.'),
    ),
  }),
  v.title('Usage'),
)

type Series = { from: Date; to: Date; bucket: BucketName }

export const usageOperations: readonly Operation[] = [
  list({
    id: 'listUsage',
    path: '/v2/usage',
    tag: 'Usage',
    summary: 'List the usage of clients',
    description:
      'One item per client, the newest client first: what it minted and was refused, in minutes, hours or days of ' +
      'UTC. Without `from` and `to`, the last 60 minutes, 24 hours or 30 days, the running one included. Refusals ' +
      'show within seconds. It is kept for 90 days.',
    scope: 'signet:usage:read',
    resource: Usage,
    query: v.strictObject({
      client_id: v.optional(id('client')),
      organization_id: v.optional(v.pipe(id('organization'), v.description('Whose clients.'))),
      bucket: v.optional(v.picklist(NAMES, `must be one of ${NAMES.join(', ')}`), 'hour'),
      from: v.optional(v.pipe(moment(), v.description('The first bucket is the one that it falls in.'))),
      to: v.optional(v.pipe(moment(), v.description('The last bucket begins before it.'))),
    }),
    async list({ transaction, actor, query, now, take, after }) {
      const [afterId, ...ofSeries] = after?.split(' ') ?? []
      const { bucket } = query
      // A page goes on with the series of the one before, however late it is asked for.
      const series = ofSeries.length === 0 ? chooseSeries(bucket, query, now) : parseSeries(bucket, ofSeries)
      if (query.client_id === undefined && take - 1 > maxClients(series, now))
        throw invalid('/limit', `must be at most ${maxClients(series, now)} with a series of this length`)

      const own = actor.isPlatform ? undefined : actor.organizationId
      if (own !== undefined && query.organization_id !== undefined && query.organization_id !== own) return []
      const rows = await readUsage(transaction, {
        clientId: query.client_id,
        organizationId: query.organization_id ?? own,
        after: afterId,
        take,
        from: series.from,
        to: series.to,
        stepSeconds: BUCKETS[bucket].milliseconds / 1000,
      })
      return rows.map((row) => toWire(row, series))
    },
    positionOf: ({ client_id, buckets }) => `${client_id} ${buckets[0]?.start} ${buckets.length}`,
  }),
]

function toWire({ id: clientId, name, organizationId, ...counted }: ClientUsage, { from, bucket }: Series) {
  const { milliseconds } = BUCKETS[bucket]
  const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0)
  return {
    client_id: clientId,
    client_name: name,
    organization_id: organizationId,
    bucket,
    totals: {
      admitted: sum(counted.admitted),
      limited: sum(counted.limited),
      denied: sum(counted.denied),
    },
    buckets: counted.admitted.map((admitted, i) => ({
      start: new Date(from.getTime() + i * milliseconds).toISOString(),
      admitted,
      limited: counted.limited[i] ?? 0,
      denied: counted.denied[i] ?? 0,
    })),
  }
}

/** From the beginning of a bucket to the end of one. Buckets of UTC: each begins at a multiple of its length. */
function chooseSeries(
  bucket: BucketName,
  asked: { from?: Date | undefined; to?: Date | undefined },
  now: Date,
): Series {
  const { milliseconds, count: usual } = BUCKETS[bucket]
  const endOf = (date: Date) => Math.ceil(date.getTime() / milliseconds)
  const to = asked.to ? endOf(asked.to) : Math.floor(now.getTime() / milliseconds) + 1
  const from = asked.from ? Math.floor(asked.from.getTime() / milliseconds) : to - usual
  if (from >= to)
    throw invalid(asked.to ? '/to' : '/from', asked.to ? 'must be later than from' : 'must be in the past')
  if (to * milliseconds > LATEST) throw invalid('/to', 'must be earlier')
  if (to - from > MAX_BUCKETS)
    throw invalid('/from', `must leave at most ${MAX_BUCKETS} buckets; longer ones take fewer`)
  return { from: new Date(from * milliseconds), to: new Date(to * milliseconds), bucket }
}

function parseSeries(bucket: BucketName, [start = '', length = '']: readonly string[]): Series {
  const from = new Date(start)
  return { from, to: new Date(from.getTime() + Number(length) * BUCKETS[bucket].milliseconds), bucket }
}

/** So that no page takes long, however much its clients are used. */
function maxClients(series: Series, now: Date): number {
  const { from, to } = series
  const oldest = now.getTime() - RETENTION_DAYS * BUCKETS.day.milliseconds
  const span = Math.min(to.getTime(), now.getTime()) - Math.max(from.getTime(), oldest)
  const minutes = Math.max(1, span / MINUTE)
  return Math.floor(Math.min(MAX_BUCKETS_OF_PAGE / lengthOf(series), MAX_MINUTES_OF_PAGE / minutes))
}

const lengthOf = ({ from, to, bucket }: Series) =>
  (to.getTime() - from.getTime()) / BUCKETS[bucket].milliseconds

const invalid = (pointer: string, detail: string) => brokenRule('query', { pointer, detail })
