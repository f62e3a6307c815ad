/** What the exchange does not look at, because something before it has settled the matter. */
import { expect, test } from 'vitest'
import { createExchange } from '../../src/exchange/exchange.ts'
import type { Credential } from '../../src/keys/keys.ts'

type Dependencies = Parameters<typeof createExchange>[0]

const WINDOW = { limit: 1, remaining: 0, resetSeconds: 7 }
const credential = {
  key: { id: 'key_1', version: 1, expiresAt: null, revokedAt: null },
  client: {
    id: 'cli_1',
    kind: 'organization',
    environment: 'sandbox',
    status: 'active',
    scopes: ['a'],
    allowedOrigins: null,
    tokensRevokedAt: null,
  },
  owner: { id: 'org_1', name: 'Own', status: 'active', tokensRevokedAt: null },
  allowedNetworks: undefined,
} as unknown as Credential

/** The answer, and which of its steps were taken. */
async function run(
  rows: { remembered: Credential; fresh: Credential },
  more: Partial<Dependencies> = {},
  subjectToken?: string,
) {
  const steps: string[] = []
  const step =
    <Answer>(name: string, answer: Answer) =>
    async () => {
      steps.push(name)
      return answer
    }
  const exchange = createExchange({
    prove: () => ({
      recall: () => rows.remembered,
      authenticate: step('authenticate', rows.fresh),
      authenticateAgain: step('read again', rows.fresh),
    }),
    inspectToken: step('inspect', undefined),
    signer: { sign: step('sign', undefined) },
    ledger: { blockedWindow: () => undefined },
    usage: { countLimited() {}, countDenied() {} },
    failures: { blockedSeconds: async () => undefined, record: step('record failure', undefined) },
    denials: { blockedSeconds: async () => undefined, record: step('record denial', undefined) },
    onRefused() {},
    now: () => 0,
    issuer: 'https://issuer.test',
    defaultAudience: 'https://api.test',
    ...more,
  } as unknown as Dependencies)
  const answer = await exchange({
    operation: 'issueToken',
    presented: { kind: 'text', text: '' },
    onAuthenticated() {},
    readRequest: step('read request', {
      organizationId: undefined,
      scopes: undefined,
      expirySeconds: undefined,
      audience: undefined,
      tokens: subjectToken === undefined ? undefined : { subjectToken, actorToken: undefined },
    }),
    clientAddress: '192.0.2.1',
    origin: undefined,
    requestId: 'r',
  })
  return { answer, steps }
}
const both = (rows: Credential) => ({ remembered: rows, fresh: rows })
const revoked = { ...credential, key: { ...credential.key, revokedAt: new Date(0) } }

test('the request of a key that may not be used', async () => {
  const { answer, steps } = await run(both(revoked))
  expect(answer).toEqual({ ok: false, reason: 'key_revoked' })
  expect(steps).toEqual(['read again', 'record failure'])
})

test('but memory alone keeps nobody out', async () => {
  const { steps } = await run({ remembered: revoked, fresh: credential }, {}, 'x')
  expect(steps).toEqual(['read again', 'read request', 'inspect', 'record denial'])
})

test('the request of a client that has used up its window', async () => {
  const ledger = { blockedWindow: () => WINDOW } as unknown as Dependencies['ledger']
  const { answer, steps } = await run(both(credential), { ledger })
  expect(answer).toEqual({ ok: false, reason: 'limited', window: WINDOW })
  expect(steps).toEqual([])
})

test('the subject token of a client that is refused too often', async () => {
  const denials = { blockedSeconds: async () => 7, record: async () => {} }
  const { answer, steps } = await run(both(credential), { denials }, 'x')
  expect(answer).toEqual({ ok: false, reason: 'too_many_refusals', retryAfterSeconds: 7 })
  expect(steps).toEqual(['read request'])
})

test('the signature of a token that a cut-off ahead of our clock would have revoked already', async () => {
  const cutOff = (milliseconds: number) => ({
    ...credential,
    client: { ...credential.client, tokensRevokedAt: new Date(milliseconds) },
  })
  const { answer, steps } = await run(both(cutOff(10_000)))
  expect(answer).toEqual({ ok: false, reason: 'unavailable' })
  expect(steps).toEqual(['read request'])
  expect((await run(both(cutOff(-1)))).steps).toEqual(['read request', 'sign'])
})

test('a partner that was denied too often costs no read of what was delegated to it', async () => {
  const partner = { ...credential, client: { ...credential.client, kind: 'partner' } } as Credential
  const denials = { blockedSeconds: async () => 7, record: async () => {} }
  let found = 0
  const delegations = {
    recall: () => undefined,
    async find() {
      found++
      return undefined
    },
  }
  const { answer } = await run(both(partner), { denials, delegations } as unknown as Partial<Dependencies>)
  expect(answer).toEqual({ ok: false, reason: 'too_many_refusals', retryAfterSeconds: 7 })
  expect(found).toBe(0)
})
