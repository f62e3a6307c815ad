/**
 * `npm run bench`: the exchange, with its lookups, limits and durable ledger, beside a floor that only validates and signs
 * (bench/floor.ts), on servers of its own. Prints what each can do and what it costs, and the ratio of the two; exits with
 * 1 when that has fallen by more than 15 % from bench/recorded.json. Takes less than two minutes.
 *
 *   --record        keeps the ratio as the one to compare with
 *   --half-load     latencies instead, at half of what the exchange can do, both at the same rate; exits with 1 when the
 *                   exchange's p99 is more than three times the floor's
 *   --profile       where the microseconds of a request go: of the exchange, or with --floor of the floor
 *   --allocations   the same of the bytes that it allocates
 *   --generator     autocannon, or wrk where that is installed
 *   --connections, --keys, --rounds, --seconds, --out (of the profile)
 */
import { readFile, writeFile } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { GENERATORS } from './bench/load.ts'
import { profileAllocations, profileCpu } from './bench/profile.ts'
import { type Sample, type Stand, withStand } from './bench/stand.ts'
import { findFalls, judgeable, MAX_FALL, median, type Ratios, ratiosOf } from './bench/verdict.ts'

const RECORDED = new URL('bench/recorded.json', import.meta.url)
const CLIENTS = 1000
const WARM_UP_SECONDS = 5
/** More rounds, before a fall is believed. */
const SECOND_LOOK = 4
const HALF_LOAD_SECONDS = 10
const HALF_LOAD_ROUNDS = 3
const MAX_P99 = 3

type Recorded = Ratios & {
  date: string
  node: string
  machine: string
  generator: string
  clients: number
  keys: number
}

const { values: options } = parseArgs({
  options: {
    record: { type: 'boolean', default: false },
    'half-load': { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    allocations: { type: 'boolean', default: false },
    floor: { type: 'boolean', default: false },
    generator: { type: 'string', default: 'autocannon' },
    connections: { type: 'string', default: '64' },
    keys: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '9' },
    seconds: { type: 'string', default: '3' },
    out: { type: 'string' },
  },
})
const generator = GENERATORS.find((each) => each === options.generator)
if (!generator) {
  console.error(`--generator must be ${GENERATORS.join(' or ')}`)
  process.exit(2)
}
const isProfile = options.profile || options.allocations
const keys = Number(options.keys)
const machine = `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores`

await withStand(
  {
    generator,
    connections: Number(options.connections),
    keys,
    clients: CLIENTS,
    ...(isProfile ? { launch: { nodeArguments: ['--inspect=127.0.0.1:0'] } } : {}),
  },
  async (stand) => {
    console.log(`Node ${process.version}, ${machine}, ${new Date().toISOString()}`)
    console.log(
      `${options.connections} connections of ${generator}, ${CLIENTS} clients in rotation, ${keys} keys; ` +
        (stand.isPinned
          ? 'the server on core 0, load and PostgreSQL on core 1'
          : 'nothing pinned: that takes taskset and two cores'),
    )
    const target = options.floor ? 'floor' : 'product'
    if (options.profile)
      await profileCpu(stand, target, options.out ?? join(tmpdir(), `signet-${target}.cpuprofile`))
    else if (options.allocations)
      await profileAllocations(stand, target, options.out ?? join(tmpdir(), `signet-${target}.heapprofile`))
    else if (options['half-load']) await measureHalfLoad(stand)
    else await compare(stand)
  },
)

async function compare({ floor, product, measure }: Stand): Promise<void> {
  const seconds = Number(options.seconds)
  const rounds: { floor: Sample; product: Sample }[] = []
  const takeRounds = async (count: number) => {
    for (let i = 0; i < count; i++)
      rounds.push({ floor: await measure(floor, seconds), product: await measure(product, seconds) })
  }
  for (const each of [floor, product]) await measure(each, WARM_UP_SECONDS)
  await takeRounds(Number(options.rounds))
  const recorded = await readRecorded()
  const look = () => {
    const { judged, isQuiet } = judgeable(rounds)
    const found = ratiosOf(judged)
    return { judged, isQuiet, found, falls: recorded ? findFalls(found, recorded, isQuiet) : [] }
  }
  if (!options.record && look().falls.length > 0) await takeRounds(SECOND_LOOK)

  const { judged, isQuiet, found, falls } = look()
  print(
    'floor',
    judged.map((round) => round.floor),
  )
  print(
    'exchange',
    judged.map((round) => round.product),
  )
  console.log(`\nratio of requests per second      ${found.ratio.toFixed(3)}`)
  console.log(`ratio of the server’s CPU time    ${found.cpuRatio?.toFixed(3) ?? 'unknown'}`)
  console.log(`(medians of ${judged.length} of ${rounds.length} rounds of ${seconds} s each, in turn)`)
  if (!isQuiet) {
    const others = median(rounds.flatMap(({ floor, product }) => [floor.otherCores, product.otherCores]))
    console.log(
      `The machine was not quiet: other programs had ${others.toFixed(1)} cores. Only CPU time can be judged.`,
    )
  }
  checkAnswers(rounds)

  if (options.record) {
    if (!isQuiet) throw new Error('not recorded: that takes a quiet machine')
    const record: Recorded = {
      ratio: round(found.ratio),
      cpuRatio: found.cpuRatio === undefined ? undefined : round(found.cpuRatio),
      date: new Date().toISOString().slice(0, 10),
      node: process.version,
      machine,
      generator: options.generator,
      clients: CLIENTS,
      keys,
    }
    await writeFile(RECORDED, `${JSON.stringify(record, undefined, 2)}\n`)
    return console.log('recorded')
  }
  if (!recorded) throw new Error('there is nothing to compare with: npm run bench -- --record')
  console.log(
    `recorded on ${recorded.date}: ${recorded.ratio} and ${recorded.cpuRatio} (Node ${recorded.node}, ${recorded.machine})`,
  )
  if (recorded.machine !== machine)
    console.log('That was another machine: ratios differ from one to the next.')
  if (falls.length > 0) throw new Error(`${falls.join('; ')}: more than ${MAX_FALL * 100} % less`)
}

async function measureHalfLoad({ floor, product, measure }: Stand): Promise<void> {
  for (const each of [floor, product]) await measure(each, WARM_UP_SECONDS)
  const rate = (await measure(product, WARM_UP_SECONDS)).rps / 2
  console.log(`${rate.toFixed(0)} requests/s, spaced at random`)
  const rounds: { floor: Sample; product: Sample }[] = []
  for (let i = 0; i < HALF_LOAD_ROUNDS; i++)
    rounds.push({
      floor: await measure(floor, HALF_LOAD_SECONDS, rate),
      product: await measure(product, HALF_LOAD_SECONDS, rate),
    })
  print(
    'floor',
    rounds.map((round) => round.floor),
  )
  print(
    'exchange',
    rounds.map((round) => round.product),
  )
  const times = median(rounds.map((round) => round.product.p99 / round.floor.p99))
  console.log(`\nthe exchange’s p99 is ${times.toFixed(2)} times the floor’s`)
  checkAnswers(rounds)
  if (!(times <= MAX_P99)) throw new Error(`it is more than ${MAX_P99} times the floor’s`)
}

/** A refusal costs less than a token: a figure with some in it says nothing. */
function checkAnswers(rounds: readonly { floor: Sample; product: Sample }[]): void {
  const sum = (pick: (sample: Sample) => number) =>
    rounds.reduce((total, { floor, product }) => total + pick(floor) + pick(product), 0)
  const failed = sum((sample) => sample.failed)
  if (failed > 0)
    throw new Error(
      `${failed} of ${failed + sum((sample) => sample.answered)} requests were not answered with success`,
    )
}

function print(name: string, samples: readonly Sample[]): void {
  const of = (pick: (sample: Sample) => number, digits = 0) => median(samples.map(pick)).toFixed(digits)
  console.log(`
${name}
  requests per second        ${of(({ rps }) => rps)}
  p50, p99                   ${of(({ p50 }) => p50, 1)} ms, ${of(({ p99 }) => p99, 1)} ms
  server’s CPU per request   ${of(({ serverCpu }) => serverCpu)} µs (${of(({ threadCpu }) => threadCpu.get('main') ?? Number.NaN)} µs of it JavaScript’s thread; ${of(({ serverCores }) => serverCores, 2)} cores)
  PostgreSQL’s               ${of(({ databaseCpu }) => databaseCpu)} µs`)
}

async function readRecorded(): Promise<Recorded | undefined> {
  const text = await readFile(RECORDED, 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text) as Recorded)
}

function round(ratio: number): number {
  return Math.round(ratio * 1000) / 1000
}
