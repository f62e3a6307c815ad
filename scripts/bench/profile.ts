/**
 * Where the microseconds and the bytes of a request go: the server under load, by stage and by function. A profiler
 * slows what it looks at; so it gives the shares, and a run without it gives what they are shares of.
 */
import { writeFile } from 'node:fs/promises'
import type { HeapProfiler, Profiler } from 'node:inspector'
import { connectInspector } from './inspector.ts'
import { type Frame, nameOf, STAGES, stageOf } from './stages.ts'
import type { Stand } from './stand.ts'

const SECONDS = 8
const WARM_UP_SECONDS = 5
const FUNCTIONS = 40

/** Weights by stage, by function itself, and by function with all that it calls. */
type Sums = {
  total: number
  stages: Map<string, number>
  self: Map<string, number>
  inclusive: Map<string, number>
}

export async function profileCpu(
  { product, floor, measure }: Stand,
  target: 'product' | 'floor',
  out: string,
): Promise<void> {
  const server = target === 'floor' ? floor : product
  await measure(server, WARM_UP_SECONDS)
  const undisturbed = await measure(server, SECONDS)
  const inspector = await connectInspector(server.stderr())
  const profile = await inspector.cpuProfile(async () => void (await measure(server, SECONDS)))
  inspector.close()
  await writeFile(out, JSON.stringify(profile))

  const { rps, threadCpu, databaseCpu } = undisturbed
  console.log(`${target}: ${rps.toFixed(0)} requests/s without the profiler`)
  console.log('\nµs of processor time per request')
  const first = threadCpu.get('main') ?? 1e6 / rps
  line('the first thread, on which JavaScript runs', first)
  for (const [name, each] of threadCpu) if (name !== 'main') line(`threads called ${name}`, each)
  line('PostgreSQL', databaseCpu)
  print(sumUp(profile), first, 'µs')
  console.log(`\nThe profile is ${out}: Chrome’s DevTools and speedscope open it.`)
}

export async function profileAllocations(
  { product, floor, measure }: Stand,
  target: 'product' | 'floor',
  out: string,
): Promise<void> {
  const server = target === 'floor' ? floor : product
  await measure(server, WARM_UP_SECONDS)
  const inspector = await connectInspector(server.stderr())
  let answered = 0
  const profile = await inspector.allocations(async () => {
    answered = (await measure(server, SECONDS)).answered
  })
  inspector.close()
  await writeFile(out, JSON.stringify(profile))

  const sums = sumUpAllocations(profile)
  console.log(
    `${target}: ${(sums.total / answered).toFixed(0)} bytes allocated in the heap per request, of ${answered}`,
  )
  print(sums, sums.total / answered, 'bytes')
  console.log(`\nThe profile is ${out}: Chrome’s DevTools open it.`)
}

function sumUp({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Sums {
  const parents = new Map<number, number>()
  for (const node of nodes) for (const child of node.children ?? []) parents.set(child, node.id)
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const weights = new Map<number, number>()
  samples.forEach((id, i) => {
    // A delta is the time since the sample before: what that one saw took so long.
    weights.set(id, (weights.get(id) ?? 0) + Math.max(0, timeDeltas[i + 1] ?? 0))
  })
  const sums = emptySums()
  for (const [id, weight] of weights) {
    const stack: Frame[] = []
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const node = byId.get(at)
      if (node) stack.push(node.callFrame)
    }
    if (stack[0]?.functionName !== '(idle)') add(sums, stack, weight)
  }
  return sums
}

function sumUpAllocations({ head }: HeapProfiler.SamplingHeapProfile): Sums {
  const sums = emptySums()
  const visit = (node: HeapProfiler.SamplingHeapProfileNode, above: readonly Frame[]) => {
    const stack = [node.callFrame, ...above]
    if (node.selfSize > 0) add(sums, stack, node.selfSize)
    for (const child of node.children) visit(child, stack)
  }
  visit(head, [])
  return sums
}

const emptySums = (): Sums => ({ total: 0, stages: new Map(), self: new Map(), inclusive: new Map() })

function add(sums: Sums, stack: readonly Frame[], weight: number): void {
  const count = (map: Map<string, number>, name: string) => map.set(name, (map.get(name) ?? 0) + weight)
  sums.total += weight
  count(sums.stages, stageOf(stack))
  const names = stack.map(nameOf)
  count(sums.self, names[0] ?? '')
  for (const name of new Set(names)) count(sums.inclusive, name)
}

function print(sums: Sums, perRequest: number, unit: string): void {
  const scaled = (weight: number) => (weight / sums.total) * perRequest
  console.log(`\n${unit} per request, by stage`)
  for (const stage of STAGES) if (sums.stages.has(stage)) line(stage, scaled(sums.stages.get(stage) ?? 0))
  for (const [title, map] of [
    ['by function, itself', sums.self],
    ['by function, with all that it calls', sums.inclusive],
  ] as const) {
    console.log(`\n${unit} per request, ${title}`)
    const largest = [...map].filter(([name]) => name !== '(root)').sort(([, a], [, b]) => b - a)
    for (const [name, weight] of largest.slice(0, FUNCTIONS)) line(name, scaled(weight))
  }
}

function line(name: string, amount: number): void {
  if (Number.isFinite(amount)) console.log(`${amount.toFixed(amount < 100 ? 1 : 0).padStart(9)}  ${name}`)
}
