/** RFC 8707: resource indicators; and what RFC 9068 §3 says of the audience that comes of them. */
import { decodeJwt } from 'jose'
import { describe, expect, test } from 'vitest'
import { askToken, basic, issuedOf, postForm, refusalOf, tokenPath } from '../oauth/calls.ts'
import { seedClient } from '../support/seed.ts'
import { DEFAULT_AUDIENCE, ISSUER, SANDBOX_ISSUER, setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const { url } = service
const ORDERS = 'https://orders.test/v1'
const client = await seedClient(database.sql, { audience: ORDERS })
const management = await seedClient(database.sql, {
  environment: 'production',
  scopes: ['signet:keys:read', 'orders:read'],
})
const audienceOf = (answer: Awaited<ReturnType<typeof askToken>>) =>
  decodeJwt(issuedOf(answer).access_token).aud
const invalidTarget = [400, 'invalid_target']

/** With parameters that may repeat. */
const ask = (...parameters: [string, string][]) =>
  postForm(url, [['grant_type', 'client_credentials'], ...parameters], { headers: [basic(client)] })

describe('§2 resource', () => {
  test('§2 aud is the resource that was asked for', async () => {
    expect(audienceOf(await ask(['resource', ORDERS]))).toBe(ORDERS)
  })

  test('§2 no absolute URI, or one with a fragment: invalid_target', async () => {
    for (const resource of [
      'orders',
      '/v1',
      '//orders.test/v1',
      `${ORDERS}#`,
      `${ORDERS}#part`,
      ':',
      'https:',
      ' ',
    ])
      expect(refusalOf(await ask(['resource', resource])), resource).toEqual(invalidTarget)
  })

  test('§2 also where the audience of the client is none: it can be named as audience', async () => {
    const plain = await seedClient(database.sql, { audience: 'orders' })
    expect(audienceOf(await askToken(url, plain, { audience: 'orders' }))).toBe('orders')
    expect(refusalOf(await askToken(url, plain, { resource: 'orders' }))).toEqual(invalidTarget)
    const fragment = await seedClient(database.sql, { audience: `${ORDERS}#a` })
    expect(refusalOf(await askToken(url, fragment, { resource: `${ORDERS}#a` }))).toEqual(invalidTarget)
  })

  test('§2 one that is not served: invalid_target; every comparison is exact', async () => {
    for (const resource of [
      'https://other.test',
      DEFAULT_AUDIENCE,
      ISSUER,
      SANDBOX_ISSUER,
      `${ORDERS}/`,
      'https://orders.test',
      ORDERS.toUpperCase(),
      'https://orders.test:443/v1',
      `${ORDERS}?`,
    ])
      for (const name of ['resource', 'audience'])
        expect(refusalOf(await ask([name, resource])), resource).toEqual(invalidTarget)
  })

  test('§2 may stand several times, as may audience (RFC 8693 §2.1): all must be the one', async () => {
    expect(audienceOf(await ask(['resource', ORDERS], ['resource', ORDERS], ['audience', ORDERS]))).toBe(
      ORDERS,
    )
    expect(refusalOf(await ask(['resource', ORDERS], ['resource', DEFAULT_AUDIENCE]))).toEqual(invalidTarget)
    expect(refusalOf(await ask(['resource', DEFAULT_AUDIENCE], ['resource', ORDERS]))).toEqual(invalidTarget)
    expect(refusalOf(await ask(['resource', ORDERS], ['audience', DEFAULT_AUDIENCE]))).toEqual(invalidTarget)
  })
})

describe('RFC 9068 §3 the audience', () => {
  test('RFC 9068 §3 without a resource: the client’s, or else the default; never the issuer', async () => {
    expect(audienceOf(await ask())).toBe(ORDERS)
    const plain = await seedClient(database.sql)
    expect(audienceOf(await askToken(url, plain))).toBe(DEFAULT_AUDIENCE)
    const strange = await seedClient(database.sql, { audience: ISSUER })
    for (const parameters of [{}, { resource: ISSUER }] as Record<string, string>[])
      expect(refusalOf(await askToken(url, strange, parameters))).toEqual(invalidTarget)
  })

  test('RFC 9068 §3 scopes of different audiences: invalid_scope, no token of ambiguous authority', async () => {
    const scope = 'signet:keys:read orders:read'
    for (const resource of ['', ISSUER, DEFAULT_AUDIENCE])
      expect(refusalOf(await askToken(url, management, { scope, resource }))).toEqual([400, 'invalid_scope'])
  })

  test('RFC 9068 §3 a resource that the scopes are not for: invalid_target', async () => {
    for (const [scope, resource] of [
      ['signet:keys:read', DEFAULT_AUDIENCE],
      ['orders:read', ISSUER],
    ] as const)
      expect(refusalOf(await askToken(url, management, { scope, resource }))).toEqual(invalidTarget)
  })

  test('RFC 9068 §3 a resource alone: the scopes that are for it', async () => {
    expect(issuedOf(await askToken(url, management, { resource: ISSUER })).scope).toBe('signet:keys:read')
    expect(issuedOf(await askToken(url, management, { resource: DEFAULT_AUDIENCE })).scope).toBe(
      'orders:read',
    )
  })

  test('§2 neither parameter in the query', async () => {
    const path = `${tokenPath('sandbox')}?resource=https://other.test`
    const answer = await postForm(
      url,
      { grant_type: 'client_credentials' },
      { headers: [basic(client)], path },
    )
    expect(audienceOf(answer)).toBe(ORDERS)
  })
})
