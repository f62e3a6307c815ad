/** Whether a revocation takes as long with very many outstanding tokens as with none. */
import { readFile } from 'node:fs/promises'
import type { Sql } from 'postgres'
import type { Bootstrapped } from '../../src/bootstrap.ts'
import type { Presentable } from './population.ts'
import { median } from './verdict.ts'

const TIMES = 60
/** Not counted: the first ones find nothing prepared. */
const WARM_UP = 5
/** Of a few milliseconds each. */
const MAX_RATIO = 1.25

const WAYS = [
  { name: 'a key', path: ({ keyId }: Presentable) => `/v2/keys/${keyId}/revoke`, body: {} },
  {
    name: 'a key, with its tokens',
    path: ({ keyId }: Presentable) => `/v2/keys/${keyId}/revoke`,
    body: { reason: 'compromised' },
  },
  {
    name: 'a client, with its tokens',
    path: ({ clientId }: Presentable) => `/v2/clients/${clientId}/revoke`,
    body: {},
  },
] as const

/** Of the first of `presentable`, which has `outstanding` tokens, and of another, which has none. In words, what took longer. */
export async function compareRevocations(options: {
  url: string
  bootstrapFile: string
  sql: Sql
  presentable: readonly Presentable[]
  outstanding: number
}): Promise<string[]> {
  const { url, bootstrapFile, sql, presentable, outstanding } = options
  const { operator } = JSON.parse(await readFile(bootstrapFile, 'utf8')) as Bootstrapped
  const token = await exchange(url, operator)
  const [heavy, other] = presentable
  if (!heavy || !other) throw new Error('there are no keys')
  await sql`delete from issued_tokens where client_id = ${other.clientId}`

  async function revoke(path: string, body: object): Promise<number> {
    const began = performance.now()
    const response = await fetch(url + path, {
      method: 'POST',
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    })
    const text = await response.text()
    const took = performance.now() - began
    if (response.status !== 200) throw new Error(`a revocation was answered with ${response.status}: ${text}`)
    return took
  }
  /** As nobody can, over HTTP: so that it can be revoked again. */
  async function restore({ keyId, clientId }: Presentable): Promise<void> {
    await sql`update keys set revoked_at = null, revocation_reason = null, tokens_revoked_at = null where id = ${keyId}`
    await sql`update clients set status = 'active', tokens_revoked_at = null where id = ${clientId}`
  }

  console.log(
    `\nms for a revocation, medians of ${TIMES}: with ${outstanding} outstanding tokens, with none, and their ratio`,
  )
  const slower: string[] = []
  for (const { name, path, body } of WAYS) {
    const times: { heavy: number[]; other: number[] } = { heavy: [], other: [] }
    for (let i = -WARM_UP; i < TIMES; i++) {
      const pairs = [[times.heavy, heavy] as const, [times.other, other] as const]
      for (const [list, each] of i % 2 === 0 ? pairs : pairs.toReversed()) {
        const took = await revoke(path(each), body)
        if (i >= 0) list.push(took)
        await restore(each)
      }
    }
    // Of pairs, each a moment apart: whatever else the machine does falls on both.
    const ratio = median(times.heavy.map((took, i) => took / (times.other[i] ?? Number.NaN)))
    const shown = [median(times.heavy), median(times.other)].map((each) => each.toFixed(1).padStart(8))
    console.log(`${name.padEnd(28)}${shown.join('')}   (${ratio.toFixed(2)})`)
    if (!(ratio <= MAX_RATIO)) slower.push(`revoking ${name} took ${ratio.toFixed(2)} times as long`)
  }
  return slower
}

async function exchange(url: string, { key, organization_id }: Bootstrapped['operator']): Promise<string> {
  const response = await fetch(`${url}/v2/auth/token`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({
      expiry_seconds: 86_400,
      scopes: { organization_id, scopes: ['signet:keys:write', 'signet:clients:write'] },
    }),
  })
  if (response.status !== 200) throw new Error(`the exchange was answered with ${response.status}`)
  return ((await response.json()) as { token: string }).token
}
