/** Floods of credentials that nobody has, from many sources, and what they cost the database. */
import { generateKeyPairSync, sign } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { checksum, createKeyFormat } from '../../src/keys/key-format.ts'
import { asSuperuser } from '../support/database.ts'

const keyFormat = createKeyFormat('sgt')
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** As one of ours, but signed with a key that we do not have, by a name that we do not know. */
export function tokenOfNobody(issuer: string, i: number): string {
  const now = Math.floor(Date.now() / 1000)
  const claims = { iss: issuer, aud: issuer, sub: 'cli_1', iat: now, exp: now + 600, jti: `tok_${i}` }
  const text = `${base64url({ alg: 'ES256', typ: 'at+jwt', kid: `unknown-${i}` })}.${base64url(claims)}`
  const signature = sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' })
  return `${text}.${signature.toString('base64url')}`
}

/** Well-formed, and nobody's. */
export const unknownKey = (): string => keyFormat.generate('sandbox').key

/** With the lookup id of that key, another secret, and the checksum of that. */
export function keyThatNames(key: string): string {
  const text = key.slice(0, 21) + unknownKey().slice(21, -6)
  return text + checksum(text)
}

export const withWrongChecksum = (key: string): string => key.slice(0, -1) + (key.endsWith('0') ? '1' : '0')

/** Each `i` another source, for a service that trusts the proxy at 127.0.0.1. */
export const from = (i: number) => ({
  'X-Forwarded-For': `198.51.${Math.floor(i / 250) % 250}.${i % 250}`,
})

/**
 * How many transactions `work` costs the database, in all its sessions: each read is one. A session tells of them when it
 * ends one, and not twice within a second: `stir` is to make each session do so.
 */
export async function transactionsOf(
  database: string,
  stir: () => Promise<unknown>,
  work: () => Promise<unknown>,
): Promise<number> {
  const count = async () => {
    await sleep(1050)
    await stir()
    await sleep(50)
    return asSuperuser(async (sql) => {
      const [row] = await sql<{ count: number }[]>`
        select (xact_commit + xact_rollback)::int as count from pg_stat_database where datname = ${database}`
      return row?.count ?? 0
    })
  }
  const before = await count()
  await work()
  return (await count()) - before
}

/** How often each status came. */
export async function inParallel(
  howMany: number,
  ask: (i: number) => Promise<number>,
): Promise<Map<number, number>> {
  const statuses = new Map<number, number>()
  let next = 0
  const lane = async () => {
    for (let i = next++; i < howMany; i = next++) {
      const status = await ask(i)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
  }
  await Promise.all(Array.from({ length: 16 }, lane))
  return statuses
}

/** The status of the answer. A 503 is asked again: the machine may have other things to do. */
export async function statusOf(url: string, init: RequestInit, tries = 5): Promise<number> {
  const response = await fetch(url, init)
  await response.arrayBuffer()
  return response.status === 503 && tries > 0 ? statusOf(url, init, tries - 1) : response.status
}
