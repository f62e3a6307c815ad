/**
 * `npm run measure -- growth`: what an exchange costs as the tables grow, and a revocation as outstanding tokens do. A
 * server and a PostgreSQL for each size, measured in turn: the processor time of both per exchange under load (1000
 * clients in rotation, spread over the table), the admission of 64 tokens of any keys at all, and the lookup of a key
 * that nobody has asked for before. 10³ and 10⁵ keys, and 10⁶ rows in the ledger; with --full 10⁶ keys and 10⁷ rows (a
 * quarter of an hour, and 10 GB of disk). Exits with 1 when the cost per exchange is more than 10 % above that of the
 * smallest, or when revoking a key or a client with very many outstanding tokens takes longer than with none.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import postgres, { type Sql } from 'postgres'
import { connectAsPlatform } from '../../src/database/database.ts'
import { startEmbeddedPostgres } from '../../src/database/embedded.ts'
import { newId } from '../../src/ids.ts'
import { type CredentialStore, createCredentialStore } from '../../src/keys/store.ts'
import {
  ADMISSION_SETTINGS,
  type AdmissionRequest,
  type AdmitBatch,
  createAdmission,
} from '../../src/ledger/admission.ts'
import { canPin, cpuMicroseconds, pin } from '../bench/cores.ts'
import { startLoad } from '../bench/load.ts'
import {
  addOutstanding,
  fillLedger,
  idOf,
  type Presentable,
  populate,
  turnOf,
  unheldLookupId,
} from '../bench/population.ts'
import { compareRevocations } from '../bench/revocations.ts'
import { median } from '../bench/verdict.ts'
import { type Instance, type ThrowawayServer, withThrowawayServer } from '../throwaway-server.ts'

const MAX_GROWTH = 1.1
const CLIENTS = 1000
const CONNECTIONS = 32
const LOAD_SECONDS = 2
const BATCH = 64
const BATCHES = 25
const LOOKUPS = 300

const { values: options } = parseArgs({
  options: { full: { type: 'boolean', default: false }, rounds: { type: 'string', default: '9' } },
})
const SIZES = [
  { name: '10³ keys', keys: 1e3, rows: 0 },
  { name: '10⁵ keys', keys: 1e5, rows: 0 },
  { name: '10⁶ ledger rows', keys: 1e3, rows: 1e6 },
  ...(options.full
    ? [
        { name: '10⁶ keys', keys: 1e6, rows: 0 },
        { name: '10⁷ ledger rows', keys: 1e3, rows: 1e7 },
      ]
    : []),
]
const OUTSTANDING = options.full ? 1e6 : 2e5

/** Microseconds. */
type Costs = { server: number; database: number; admission: number; lookup: number }

type Subject = {
  name: string
  instance: Instance
  bootstrapFile: string
  sql: Sql
  presentable: Presentable[]
  measure(): Promise<Costs>
  close(): Promise<void>
}

await withThrowawayServer(async (server) => {
  const isPinned = canPin()
  console.log(
    `Node ${process.version}; ${isPinned ? 'servers on core 0, load and PostgreSQL on core 1' : 'nothing pinned'}`,
  )
  const subjects: Subject[] = []
  try {
    for (const size of SIZES) {
      const began = performance.now()
      subjects.push(await prepare(server, size, isPinned))
      console.log(`${size.name}: made in ${((performance.now() - began) / 1000).toFixed(0)} s`)
    }
    const grown = await compare(subjects)
    const [small] = subjects
    const ledger = subjects.filter(({ name }) => name.endsWith('rows')).at(-1)
    if (!small || !ledger) throw new Error('nothing to compare')
    await addOutstanding(ledger.sql, ledger.presentable.slice(0, 1), OUTSTANDING)
    const slower = await compareRevocations({
      ...ledger,
      url: ledger.instance.url,
      outstanding: OUTSTANDING,
    })
    const broken = [...grown, ...slower]
    if (broken.length > 0) throw new Error(broken.join('; '))
  } finally {
    for (const subject of subjects) await subject.close()
  }
})

async function prepare(
  server: ThrowawayServer,
  { name, keys, rows }: (typeof SIZES)[number],
  isPinned: boolean,
): Promise<Subject> {
  const dataDir = join(server.dataDir, '..', `${keys}-${rows}`)
  const bootstrapFile = `${dataDir}.json`
  const instance = await server.startAnother({
    environment: { DATA_DIR: dataDir, BOOTSTRAP_FILE: bootstrapFile },
  })
  const embedded = await startEmbeddedPostgres({ dataDir })
  const { pid: postmaster, connection } = embedded
  if (isPinned) {
    pin(instance.pid, 0)
    pin(postmaster, 1)
  }
  const sql = postgres({ ...connection, max: 1, onnotice: () => {}, connection: { 'signet.platform': 'on' } })
  const presentable = await populate(sql, keys, CLIENTS)
  if (rows > 0) await fillLedger(sql, presentable, rows)
  // What was written just now is written out before anything is measured.
  const superuser = postgres({ ...embedded.superuser, max: 1, onnotice: () => {} })
  await superuser`checkpoint`
  await superuser.end()

  const judgedOf = await readJudged(sql, keys)
  const held = new Map(presentable.map(({ n, lookupId }) => [n, lookupId]))
  const load = await startLoad('autocannon', presentable.map(turnOf), isPinned ? 1 : undefined)
  const admission = createAdmission(() =>
    connectAsPlatform(connection, {
      max: 3,
      statementTimeoutMilliseconds: 500,
      settings: ADMISSION_SETTINGS,
    }),
  )
  const database = connectAsPlatform(connection, { max: 1, statementTimeoutMilliseconds: 500 })
  const store = createCredentialStore(database, database)

  return {
    name,
    instance,
    bootstrapFile,
    sql,
    presentable,
    async measure() {
      const look = () => [
        cpuMicroseconds(instance.pid, postmaster) ?? Number.NaN,
        cpuMicroseconds(postmaster) ?? Number.NaN,
      ]
      const before = look()
      const { answered, failed } = await load.run({
        url: `${instance.url}/v2/auth/token`,
        connections: CONNECTIONS,
        seconds: LOAD_SECONDS,
      })
      const [serverCpu = 0, databaseCpu = 0] = look().map((each, i) => each - (before[i] ?? 0))
      if (answered === 0 || failed > 0) throw new Error(`${failed} of ${answered + failed} exchanges failed`)
      return {
        server: serverCpu / answered,
        database: databaseCpu / answered,
        admission: await timeAdmissions(admission.admitBatch, judgedOf),
        lookup: await timeLookups(store, keys, held),
      }
    },
    async close() {
      load.close()
      await admission.close()
      await database.$client.end({ timeout: 1 })
      await sql.end({ timeout: 1 })
      await embedded.stop()
    },
  }
}

/** Which of them the cost has grown for, in words. */
async function compare(subjects: readonly Subject[]): Promise<string[]> {
  const rounds: Costs[][] = []
  for (const subject of subjects) await subject.measure()
  for (let round = 0; round < Number(options.rounds); round++) {
    // Now the one first, now the other.
    const costs: Costs[] = []
    for (let i = 0; i < subjects.length; i++) {
      const at = (i + round) % subjects.length
      const subject = subjects[at]
      if (subject) costs[at] = await subject.measure()
    }
    rounds.push(costs)
  }
  const total = ({ server, database }: Costs) => server + database
  console.log(`\nµs, medians of ${rounds.length} rounds, and times the first one’s`)
  console.log(
    `${''.padEnd(18)}${['server CPU', 'PostgreSQL CPU', 'per exchange', `admission of ${BATCH}`, 'cold lookup'].map((each) => each.padStart(22)).join('')}`,
  )
  const grown: string[] = []
  subjects.forEach(({ name }, at) => {
    const figure = (pick: (costs: Costs) => number) => {
      const here = rounds.flatMap((costs) => costs[at] ?? [])
      const times = median(
        rounds.map((costs) => (costs[at] && costs[0] ? pick(costs[at]) / pick(costs[0]) : Number.NaN)),
      )
      return { times, text: `${median(here.map(pick)).toFixed(0)} (${times.toFixed(2)})`.padStart(22) }
    }
    const perExchange = figure(total)
    const cells = [
      figure(({ server }) => server),
      figure(({ database }) => database),
      perExchange,
      figure(({ admission }) => admission),
      figure(({ lookup }) => lookup),
    ]
    console.log(name.padEnd(18) + cells.map(({ text }) => text).join(''))
    if (!(perExchange.times <= MAX_GROWTH))
      grown.push(`an exchange costs ${perExchange.times.toFixed(2)} times as much with ${name}`)
  })
  return grown
}

/** Of keys from all over the table, few of which have been asked for before. */
function anyOf(keys: number): number {
  return 1 + Math.floor(Math.random() * keys)
}

/** Versions count up with the rows, so that one of each tells all: to read them would be to fetch the rows first. */
async function readJudged(sql: Sql, keys: number): Promise<() => AdmissionRequest> {
  const [first] = await sql<
    { key: string; client: string; owner: string; kid: string; kid_version: string }[]
  >`
    select k.version as key, c.version as client, o.version as owner, s.kid, s.version as kid_version
    from keys k, clients c, organizations o, signing_keys s
    where k.id = ${idOf('key', 1)} and c.id = ${idOf('cli', 1)} and o.id = ${idOf('org', 1)}
      and s.environment = 'sandbox' and s.activates_at <= now() order by s.activates_at desc limit 1`
  if (!first) throw new Error('there is no row to judge by')
  return () => {
    const n = anyOf(keys)
    const judged = (prefix: 'org' | 'cli' | 'key', version: string) => ({
      id: idOf(prefix, n),
      version: Number(version) + n - 1,
    })
    const now = Math.floor(Date.now() / 1000)
    const owner = judged('org', first.owner)
    return {
      jti: newId('token'),
      issuedAt: now,
      expiresAt: now + 3600,
      environment: 'sandbox',
      scopes: ['transactions:read'],
      audience: 'https://api.example.com',
      clientIp: '203.0.113.7',
      requestId: 'req_growth',
      subjectJtis: undefined,
      key: judged('key', first.key),
      client: judged('cli', first.client),
      owner,
      organization: owner,
      delegation: undefined,
      signingKey: { id: first.kid, version: Number(first.kid_version) },
    }
  }
}

async function timeAdmissions(admitBatch: AdmitBatch, judgedOf: () => AdmissionRequest): Promise<number> {
  const times: number[] = []
  for (let batch = 0; batch < BATCHES; batch++) {
    const requests = Array.from({ length: BATCH }, judgedOf)
    const began = performance.now()
    const verdicts = await admitBatch(requests)
    times.push((performance.now() - began) * 1000)
    if (verdicts.some(({ outcome }) => outcome !== 'admitted')) throw new Error('a token was not admitted')
  }
  return median(times)
}

async function timeLookups(
  store: Pick<CredentialStore, 'findCredential'>,
  keys: number,
  held: ReadonlyMap<number, string>,
): Promise<number> {
  const times: number[] = []
  for (let lookup = 0; lookup < LOOKUPS; lookup++) {
    const n = anyOf(keys)
    const began = performance.now()
    const found = await store.findCredential(held.get(n) ?? unheldLookupId(n), { settle: false })
    times.push((performance.now() - began) * 1000)
    if (!found) throw new Error('a key was not found')
  }
  return median(times)
}
