/**
 * Drives a running service with requests made from its own OpenAPI document, and holds every answer against it: none
 * is a 5xx, none has a status, a media type or a body that is not documented. Ids, keys and cursors are picked from
 * the answers, so that the requests reach what earlier ones made.
 */
import fc from 'fast-check'
import type { OpenApiDocument } from '../../../src/http/openapi.ts'
import { type Contract, createContract } from '../contract.ts'
import { rawRequest } from '../mint.ts'
import { createPlans, type Plan } from './plan.ts'
import type { Operator } from './tenants.ts'
import { createWorld } from './world.ts'

export type FuzzOptions = {
  url: string
  operator: Operator
  requests: number
  seed: number
  concurrency: number
  deadlineMilliseconds: number
}

export type FuzzResult = {
  sent: number
  /** By operation, by status. */
  counts: Map<string, Map<number, number>>
  violations: { request: string; answer: string; broken: string[] }[]
}

/** Enough of them to see what comes of a rotation; each costs a key. */
const MAX_SIGNING_KEY_CHANGES = 40
const MAX_VIOLATIONS = 20

export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const { url, requests, seed, concurrency } = options
  const document = (await (await fetch(`${url}/openapi.json`)).json()) as OpenApiDocument
  const contract = createContract(document)
  const plans = fc.sample(createPlans(document), { seed, numRuns: requests })
  const world = await createWorld(url, options.operator, document)
  const result: FuzzResult = { sent: 0, counts: new Map(), violations: [] }
  const ends = Date.now() + options.deadlineMilliseconds
  let signingKeyChanges = 0
  let next = 0

  async function work(): Promise<void> {
    for (;;) {
      const plan = plans[next++]
      if (!plan || Date.now() > ends || result.violations.length >= MAX_VIOLATIONS) return
      const changesSigningKeys =
        plan.credential === 'platform' &&
        plan.method === 'POST' &&
        plan.template.startsWith('/v2/signing-keys')
      if (changesSigningKeys && ++signingKeyChanges > MAX_SIGNING_KEY_CHANGES) plan.credential = 'tenant'
      await send(plan)
    }
  }

  async function send(plan: Plan): Promise<void> {
    const request = world.requestOf(plan)
    const answer = await rawRequest(url, request).catch((error) => ({
      status: 0,
      headers: {},
      body: String(error),
    }))
    result.sent++
    const headers = new Headers(Object.entries(answer.headers).map(([name, value]) => [name, String(value)]))
    const { status, body } = answer
    const name = nameOf(contract, request)
    const ofName = result.counts.get(name) ?? new Map<number, number>()
    result.counts.set(name, ofName.set(status, (ofName.get(status) ?? 0) + 1))
    const isText = /json|^text/.test(headers.get('content-type') ?? '')
    const observed = {
      method: request.method,
      path: request.path,
      status,
      headers,
      body: isText ? body : undefined,
    }
    const broken = status === 0 || status >= 500 ? [`a ${status}`] : contract.violationsOf(observed)
    if (broken.length > 0)
      result.violations.push({
        request: JSON.stringify(request),
        answer: `${status} ${body.slice(0, 2000)}`,
        broken,
      })
    world.learn(request, status, headers, body)
    if (status === 401 && body.includes('"invalid_token"')) await world.refresh(plan.credential)
  }

  await Promise.all(Array.from({ length: concurrency }, work))
  return result
}

const nameOf = (contract: Contract, { method, path }: { method: string; path: string }) => {
  const found = contract.find(method, path)
  return found?.operation ? `${method} ${found.template}` : found ? '(other methods)' : '(other paths)'
}
