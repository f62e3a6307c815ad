/**
 * RFC 7523, client authentication by assertion (private_key_jwt), as RFC 10070 updates it, at a running token endpoint.
 * What an assertion must look like is in test/keys/assertion-rules.test.ts, value by value.
 */
import { createHmac, createPublicKey, randomUUID } from 'node:crypto'
import * as oauth from 'oauth4webapi'
import { afterAll, describe, expect, test } from 'vitest'
import { connectAsPlatform, disconnect } from '../../src/database/database.ts'
import { newId } from '../../src/ids.ts'
import { forgetAssertions } from '../../src/keys/store.ts'
import {
  type Algorithm,
  assertionOf,
  type Changes,
  type Client,
  issuerOf,
  type Jwk,
  makePair,
  type Pair,
  seedPublicKey,
  sign,
} from '../keys/assertions.ts'
import { apiOfOperator } from '../support/management.ts'
import { fingerprint, type RawAnswer, rawRequest } from '../support/mint.ts'
import { claimsOf, waitFor } from '../support/process.ts'
import { type ClientOptions, seedClient } from '../support/seed.ts'
import { setUpService, startService, type TestService } from '../support/service.ts'

const { database, service } = await setUpService()
const { sql } = database
const other = await startService(database)
const lenient = await startService(database, { config: { acceptTokenEndpointAudience: true } })
afterAll(async () => {
  await other.stop()
  await lenient.stop()
})
const operator = await apiOfOperator(service)

const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
type Parameters = Record<string, string | undefined>
type Asked = {
  at?: TestService
  endpoint?: string
  environment?: Client['environment']
  headers?: [string, string][]
}

/** A form with what is not `undefined`, to the issuer of the environment. */
function post(parameters: Parameters, asked: Asked = {}): Promise<RawAnswer> {
  const { at = service, endpoint = 'token', environment = 'sandbox', headers = [] } = asked
  const present = Object.entries(parameters).filter((each): each is [string, string] => each[1] !== undefined)
  const body = new URLSearchParams(present).toString()
  return rawRequest(at.url, {
    path: `${environment === 'sandbox' ? '/sandbox' : ''}/oauth2/${endpoint}`,
    headers: [
      ['Content-Type', 'application/x-www-form-urlencoded'],
      ['Content-Length', String(body.length)],
      ...headers,
    ],
    body,
  })
}
const withAssertion = (client_assertion: string, more: Parameters = {}, asked: Asked = {}) =>
  post(
    { grant_type: 'client_credentials', client_assertion_type: JWT_BEARER, client_assertion, ...more },
    asked,
  )

async function seed(options: ClientOptions = {}, alg: Algorithm = 'ES256', kid = 'k') {
  const client = await seedClient(sql, options)
  const pair = makePair(alg, kid)
  const keyId = await seedPublicKey(sql, client.clientId, pair)
  return { client, pair, keyId }
}
const { client, pair, keyId } = await seed()
/** With this client's own key, changed so. */
const present = (changes: Changes = {}, more: Parameters = {}, asked: Asked = {}) =>
  withAssertion(assertionOf(client, pair, changes), more, asked)
const seconds = () => Math.floor(Date.now() / 1000)

/** What who is nobody gets. */
const invalidClient = fingerprint(
  await post({ grant_type: 'client_credentials', client_id: newId('client'), client_secret: 'wrong' }),
)
function expectInvalidClient(answer: RawAnswer, what?: string) {
  expect(fingerprint(answer), what).toEqual(invalidClient)
}

test('§3.2 who is not authenticated gets 401 invalid_client, with a challenge', () => {
  expect(invalidClient).toMatchObject({
    status: 401,
    headers: {
      'www-authenticate': expect.stringMatching(/^Basic realm=/),
      'content-type': 'application/json',
    },
    body: expect.stringContaining('"error":"invalid_client"'),
  })
})

describe('§2.2 client_assertion and client_assertion_type', () => {
  test('authenticate the client: a token of its own, by that key', async () => {
    const answer = await present()
    expect(answer.status, answer.body).toBe(200)
    const { access_token, token_type } = JSON.parse(answer.body)
    expect(token_type.toLowerCase()).toBe('bearer')
    expect(claimsOf(access_token)).toMatchObject({
      sub: client.clientId,
      client_id: client.clientId,
      organization_id: client.organizationId,
      key_id: keyId,
    })
    const [row] =
      await sql`select key_id from issued_tokens where jti = ${String(claimsOf(access_token).jti)}`
    expect(row?.key_id).toBe(keyId)
    await waitFor('last_used_at', async () => {
      const [usage] = await sql`select host(last_used_ip) as ip from key_usage where key_id = ${keyId}`
      return usage?.ip === '127.0.0.1'
    })
  })

  test('another type, none, or a type without an assertion: invalid_client', async () => {
    const types = [
      undefined,
      '',
      'urn:ietf:params:oauth:client-assertion-type:saml2-bearer',
      'jwt-bearer',
      JWT_BEARER.toUpperCase(),
      `${JWT_BEARER} `,
    ]
    for (const client_assertion_type of types)
      expectInvalidClient(await present({}, { client_assertion_type }), client_assertion_type)
    expectInvalidClient(await withAssertion(''))
    expectInvalidClient(await post({ grant_type: 'client_credentials', client_assertion_type: JWT_BEARER }))
  })

  test('one JWT: not two in one parameter, nor the parameter twice (RFC 6749 §3.2)', async () => {
    const [one, two] = [assertionOf(client, pair), assertionOf(client, pair)]
    for (const text of [`${one} ${two}`, `${one},${two}`, JSON.stringify([one]), ` ${one}`, `${one}\n`])
      expectInvalidClient(await withAssertion(text))
    const body = new URLSearchParams({ grant_type: 'client_credentials', client_assertion_type: JWT_BEARER })
    body.append('client_assertion', one)
    body.append('client_assertion', two)
    const answer = await rawRequest(service.url, {
      path: '/sandbox/oauth2/token',
      headers: [
        ['Content-Type', 'application/x-www-form-urlencoded'],
        ['Content-Length', String(`${body}`.length)],
      ],
      body: `${body}`,
    })
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([400, 'invalid_request'])
  })

  test('in the query, an assertion is none (RFC 6749 §2.3.1)', async () => {
    const body = 'grant_type=client_credentials'
    const query = new URLSearchParams({
      client_assertion_type: JWT_BEARER,
      client_assertion: assertionOf(client, pair),
    })
    const answer = await rawRequest(service.url, {
      path: `/sandbox/oauth2/token?${query}`,
      headers: [
        ['Content-Type', 'application/x-www-form-urlencoded'],
        ['Content-Length', String(body.length)],
      ],
      body,
    })
    expect(answer.status).toBe(401)
  })

  test('client_id need not be there; where it is, it is sub', async () => {
    expect((await present({}, { client_id: client.clientId })).status).toBe(200)
    expect((await present({}, { client_id: '' })).status).toBe(200)
    expectInvalidClient(await present({}, { client_id: newId('client') }))
    expectInvalidClient(await present({}, { client_id: (await seed()).client.clientId }))
  })

  test('beside another method: invalid_request, and the assertion is not used up (RFC 6749 §2.3)', async () => {
    const assertion = assertionOf(client, pair)
    const basic = Buffer.from(`${client.clientId}:${client.key}`).toString('base64')
    const answers = [
      await withAssertion(assertion, { client_id: client.clientId, client_secret: client.key }),
      await withAssertion(assertion, {}, { headers: [['Authorization', `Basic ${basic}`]] }),
    ]
    for (const { status, body } of answers)
      expect([status, JSON.parse(body).error]).toEqual([400, 'invalid_request'])
    expect((await withAssertion(assertion)).status).toBe(200)
  })

  test.each(['introspect', 'revoke'])('authenticate the client at /oauth2/%s too', async (endpoint) => {
    const { access_token: token } = JSON.parse((await present()).body)
    const used = assertionOf(client, pair)
    const asked = { endpoint }
    const forThat = { grant_type: undefined, token }
    expect((await withAssertion(used, forThat, asked)).status).toBe(200)
    expect((await withAssertion(used, forThat, asked)).status).toBe(401)
    expect((await present({ claims: { aud: 'https://elsewhere.test' } }, forThat, asked)).status).toBe(401)
  })
})

describe('§3 the claims', () => {
  test('1. 2. iss and sub are there, and both the client', async () => {
    const stranger = (await seed()).client.clientId
    for (const claims of [
      { iss: undefined },
      { sub: undefined },
      { iss: stranger },
      { sub: stranger },
      { iss: stranger, sub: stranger },
      { iss: 'https://client.example.com' },
      { iss: newId('client'), sub: newId('client') },
    ])
      expectInvalidClient(await present({ claims }), JSON.stringify(claims))
  })

  test('3. aud (RFC 10070 §4) is the issuer as the sole value, a string or an array of one', async () => {
    const issuer = issuerOf(client)
    for (const aud of [issuer, [issuer]]) expect((await present({ claims: { aud } })).status).toBe(200)
    const refused = [
      `${issuer}/oauth2/token`,
      [`${issuer}/oauth2/token`],
      [issuer, `${issuer}/oauth2/token`],
      [issuer, 'https://other.test'],
      [issuer, issuer],
      [],
      undefined,
      `${issuer}/`,
      issuer.toUpperCase(),
      issuerOf({ environment: 'production' }),
      `${service.url}/sandbox`,
    ]
    for (const aud of refused) expectInvalidClient(await present({ claims: { aud } }), JSON.stringify(aud))
  })

  test('4. exp is there, has not passed, and is not far away', async () => {
    for (const exp of [
      undefined,
      seconds() - 15,
      seconds() + 330,
      seconds() + 86_400,
      String(seconds() + 60),
    ])
      expectInvalidClient(await present({ claims: { exp } }), String(exp))
    for (const exp of [seconds() + 5.5, seconds() + 299])
      expect((await present({ claims: { exp } })).status).toBe(200)
  })

  test('5. 6. nbf and iat, where they are there, are not in the future', async () => {
    for (const name of ['nbf', 'iat']) {
      expectInvalidClient(await present({ claims: { [name]: seconds() + 30 } }), name)
      for (const value of [undefined, seconds() - 100, seconds() + 3])
        expect((await present({ claims: { [name]: value } })).status, `${name} ${value}`).toBe(200)
    }
  })

  test('7. jti is there, and good once', async () => {
    for (const jti of [undefined, '', 'x'.repeat(256), 7])
      expectInvalidClient(await present({ claims: { jti } }))
    const assertion = assertionOf(client, pair)
    expect((await withAssertion(assertion)).status).toBe(200)
    expectInvalidClient(await withAssertion(assertion))
    expectInvalidClient(await withAssertion(assertion, {}, { at: other }))
    // The same jti in another assertion, and by another key of the client’s.
    const claims = { jti: randomUUID() }
    const second = makePair('ES256', 'second')
    await seedPublicKey(sql, client.clientId, second)
    expect((await present({ claims })).status).toBe(200)
    expectInvalidClient(await present({ claims: { ...claims, exp: seconds() + 200 } }))
    expectInvalidClient(await withAssertion(assertionOf(client, second, { claims })))
    // Another client's are its own.
    const stranger = await seed()
    expect((await withAssertion(assertionOf(stranger.client, stranger.pair, { claims }))).status).toBe(200)
  })

  test('7. of one assertion 24 times at once, over two instances, one is taken', async () => {
    const assertion = assertionOf(client, pair)
    const answers = await Promise.all(
      Array.from({ length: 24 }, (_, i) => withAssertion(assertion, {}, { at: i % 2 ? service : other })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array(23).fill(401)])
    const { clientId } = client
    const { jti, exp } = claimsOf(assertion)
    const rows = await sql`select extract(epoch from expires_at)::int as exp from client_assertions
      where client_id = ${clientId} and jti = ${String(jti)}`
    expect(rows).toEqual([{ exp }])
  })

  test('7. what is not good in all else does not use a jti up', async () => {
    const claims = { jti: randomUUID() }
    const forger = makePair('ES256', 'k')
    expectInvalidClient(await withAssertion(assertionOf(client, forger, { claims })))
    expectInvalidClient(await present({ claims: { ...claims, aud: 'https://other.test' } }))
    expectInvalidClient(await present({ claims: { ...claims, exp: 1 } }))
    expectInvalidClient(await present({ claims }, { client_id: newId('client') }))
    expect((await present({ claims })).status).toBe(200)
  })

  test('7. it is remembered until it has expired, and no longer', async () => {
    const { clientId } = client
    const jtis = { old: randomUUID(), recent: randomUUID(), live: randomUUID() }
    const [oldest, recent] = [new Date(Date.now() - 120_000), new Date(Date.now() - 15_000)]
    await sql`insert into client_assertions (client_id, jti, expires_at) values
      (${clientId}, ${jtis.old}, ${oldest}), (${clientId}, ${jtis.recent}, ${recent})`
    expect((await present({ claims: { jti: jtis.live } })).status).toBe(200)
    const background = connectAsPlatform(database.target, { max: 1, statementTimeoutMilliseconds: 5_000 })
    await forgetAssertions(background)
    await disconnect(background)
    const left = await sql`select jti from client_assertions where jti in ${sql(Object.values(jtis))}`
    expect(left.map(({ jti }) => jti).toSorted()).toEqual([jtis.recent, jtis.live].toSorted())
  })

  test('7. F2 where it cannot be remembered nobody is let in: temporarily unavailable', async () => {
    const assertion = assertionOf(client, pair)
    await sql`alter table client_assertions rename to set_aside`
    try {
      const answer = await withAssertion(assertion)
      expect(answer.status, answer.body).toBe(503)
      expect(answer.headers['retry-after']).toBe('1')
    } finally {
      await sql`alter table set_aside rename to client_assertions`
    }
    expect((await withAssertion(assertion)).status).toBe(200)
  })
})

describe('§3 9. the signature', () => {
  test.each(['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519'] as const)(
    '§5 %s is accepted, of a key that is for it',
    async (alg) => {
      const { client, pair } = await seed({}, alg)
      const answer = await withAssertion(assertionOf(client, pair))
      expect(answer.status, answer.body).toBe(200)
      // With another algorithm's name, the same key has signed nothing.
      for (const name of ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519', 'RS512'].filter(
        (each) => each !== alg,
      ))
        expectInvalidClient(await withAssertion(assertionOf(client, pair, { header: { alg: name } })), name)
    },
  )

  test('A27 §3 none is refused', async () => {
    const [, payload] = assertionOf(client, pair).split('.')
    for (const alg of ['none', 'None', 'NONE', ''])
      for (const signature of ['', 'AA']) {
        const header = Buffer.from(JSON.stringify({ alg, kid: 'k' })).toString('base64url')
        expectInvalidClient(await withAssertion(`${header}.${payload}.${signature}`), alg)
      }
  })

  test('A28 HMAC with the public key as its secret is refused', async () => {
    const { client, pair } = await seed({}, 'RS256')
    const key = createPublicKey(pair.privateKey)
    const pem = key.export({ format: 'pem', type: 'spki' }).toString()
    const secrets = [
      pem,
      pem.trim(),
      `\n${pem}`,
      key.export({ format: 'der', type: 'spki' }),
      JSON.stringify(pair.jwk),
    ]
    for (const alg of ['HS256', 'RS256'])
      for (const secret of secrets) {
        const [header, payload] = assertionOf(client, pair, { header: { alg } }).split('.')
        const mac = createHmac('sha256', secret).update(`${header}.${payload}`).digest('base64url')
        expectInvalidClient(await withAssertion(`${header}.${payload}.${mac}`))
      }
  })

  test('another key’s, a changed one and another assertion’s are refused', async () => {
    expectInvalidClient(await withAssertion(assertionOf(client, makePair('ES256', 'k'))))
    const stranger = await seed()
    expectInvalidClient(await withAssertion(assertionOf(client, stranger.pair)))
    const [header, payload, signature = ''] = assertionOf(client, pair).split('.')
    const [, otherPayload] = assertionOf(client, pair).split('.')
    expectInvalidClient(await withAssertion(`${header}.${otherPayload}.${signature}`))
    const bytes = Buffer.from(signature, 'base64url')
    const zero = Buffer.alloc(32)
    const variants: [string, Buffer][] = [
      ['a bit', Buffer.from(bytes.map((byte, i) => (i === 40 ? byte ^ 1 : byte)))],
      ['A36 r = 0', Buffer.concat([zero, bytes.subarray(32)])],
      ['A36 s = 0', Buffer.concat([bytes.subarray(0, 32), zero])],
      ['A36 both 0', Buffer.alloc(64)],
      ['A36 out of range', Buffer.alloc(64, 0xff)],
    ]
    for (const [what, each] of variants)
      expectInvalidClient(await withAssertion(`${header}.${payload}.${each.toString('base64url')}`), what)
  })

  test('A29 a kid names one of the client’s own keys, or nothing', async () => {
    const kids = ['unknown', '../../dev/null', "' OR 1=1--", 'x'.repeat(10_000), '', 7, null, keyId, 'K']
    for (const kid of kids) expectInvalidClient(await present({ header: { kid } }), String(kid))
  })

  test('without a kid, every key of the client’s for that algorithm may have made it', async () => {
    const { client, pair } = await seed({}, 'ES256', 'first')
    const more = [makePair('ES256', 'second'), makePair('ES256'), makePair('Ed25519', 'x')]
    for (const each of more) await seedPublicKey(sql, client.clientId, each)
    for (const each of [pair, ...more])
      expect((await withAssertion(assertionOf(client, each, { header: { kid: undefined } }))).status).toBe(
        200,
      )
    expectInvalidClient(await withAssertion(assertionOf(client, makePair(), { header: { kid: undefined } })))
  })

  test('A30 a key in the header, or where one is, is refused and not fetched', async () => {
    const forger = makePair('ES256', 'k')
    const { jwk } = forger
    const jku = `${service.url}/canary`
    for (const header of [{ jwk }, { jku }, { x5u: jku }, { x5c: ['AA'] }]) {
      expectInvalidClient(await withAssertion(assertionOf(client, forger, { header })))
      expectInvalidClient(await present({ header }))
    }
    expect(service.logs.join('\n')).not.toContain('/canary')
  })

  test('A31 crit and b64 are refused', async () => {
    for (const header of [{ crit: ['x'], x: 1 }, { crit: ['b64'], b64: true }, { b64: false }, { crit: [] }])
      expectInvalidClient(await present({ header }))
  })
})

describe('RFC 10070 §4 typ', () => {
  test('client-authentication+jwt is taken, and so is none, or JWT', async () => {
    for (const typ of [
      'client-authentication+jwt',
      'application/client-authentication+jwt',
      'JWT',
      undefined,
    ])
      expect((await present({ header: { typ } })).status, typ).toBe(200)
  })

  test('A32 that of another kind of JWT is refused, whoever signed it', async () => {
    for (const typ of [
      'at+jwt',
      'application/at+jwt',
      'dpop+jwt',
      'logout+jwt',
      'token-introspection+jwt',
      '',
      null,
    ])
      expectInvalidClient(await present({ header: { typ } }), String(typ))
  })

  test('A15 an access token is no assertion', async () => {
    const { access_token } = JSON.parse((await present()).body)
    expectInvalidClient(await withAssertion(access_token))
  })
})

describe('RFC 10070 §6 the switch for older clients', () => {
  const endpoint = `${issuerOf(client)}/oauth2/token`
  const warnings = () => lenient.logs.filter((line) => JSON.parse(line).level === 40)

  test('takes the token endpoint as the sole audience, and logs each use with the client’s id', async () => {
    const before = warnings().length
    for (const aud of [endpoint, [endpoint]])
      expect((await present({ claims: { aud } }, {}, { at: lenient })).status).toBe(200)
    const [first, second, ...more] = warnings()
      .slice(before)
      .map((line) => JSON.parse(line))
    expect([first?.clientId, second?.clientId, more]).toEqual([client.clientId, client.clientId, []])
  })

  test('takes nothing else, and logs nothing of what it refuses', async () => {
    const before = warnings().length
    const issuer = issuerOf(client)
    const production = issuerOf({ environment: 'production' })
    for (const aud of [
      [issuer, endpoint],
      [endpoint, endpoint],
      `${endpoint}/`,
      `${production}/oauth2/token`,
      `${issuer}/oauth2/introspect`,
    ])
      expectInvalidClient(await present({ claims: { aud } }, {}, { at: lenient }), String(aud))
    const forged = assertionOf(client, makePair('ES256', 'k'), { claims: { aud: endpoint } })
    expectInvalidClient(await withAssertion(forged, {}, { at: lenient }))
    const used = assertionOf(client, pair, { claims: { aud: issuer } })
    expect((await withAssertion(used, {}, { at: lenient })).status).toBe(200)
    expectInvalidClient(await withAssertion(used, {}, { at: lenient }))
    expect(warnings().length).toBe(before)
  })
})

describe('§3 9. the keys are those that the client has registered, at every instance', () => {
  const register = async (clientId: string, pairs: Pair[]) => {
    const answer = await operator.post<{ keys: { key_id: string; kid: string }[] }>(
      `/v2/clients/${clientId}/jwks`,
      { keys: pairs.map(({ jwk }) => jwk) },
    )
    expect(answer.status, answer.text).toBe(200)
    return answer.body.keys
  }
  const instances = [service, other]

  test('from the answer to the registration on, also where others of its keys are in memory', async () => {
    const client = await seedClient(sql)
    const pairs = [makePair('ES256', 'a'), makePair('ES256', 'b'), makePair('Ed25519', 'c')]
    const registered: Pair[] = []
    for (const pair of pairs) {
      for (const at of instances)
        expectInvalidClient(await withAssertion(assertionOf(client, pair), {}, { at }))
      registered.push(pair)
      await register(client.clientId, registered)
      for (const at of instances)
        for (const each of registered)
          expect((await withAssertion(assertionOf(client, each), {}, { at })).status).toBe(200)
    }
  })

  test('until the answer to the revocation; the others stay', async () => {
    const client = await seedClient(sql)
    const [gone, kept] = [makePair('ES256', 'gone'), makePair('ES256', 'kept')]
    const keys = await register(client.clientId, [gone, kept])
    for (const at of instances)
      expect((await withAssertion(assertionOf(client, gone), {}, { at })).status).toBe(200)
    const id = keys.find(({ kid }) => kid === 'gone')?.key_id
    expect((await operator.post(`/v2/keys/${id}/revoke`)).status).toBe(200)
    for (const at of instances) {
      expectInvalidClient(await withAssertion(assertionOf(client, gone), {}, { at }))
      expect((await withAssertion(assertionOf(client, kept), {}, { at })).status).toBe(200)
    }
  })

  test('until it is no longer in the set; and it comes back as another key', async () => {
    const client = await seedClient(sql)
    const [gone, kept] = [makePair('ES256', 'gone'), makePair('ES256', 'kept')]
    const first = await register(client.clientId, [gone, kept])
    for (const at of instances)
      expect((await withAssertion(assertionOf(client, gone), {}, { at })).status).toBe(200)
    await register(client.clientId, [kept])
    for (const at of instances)
      expectInvalidClient(await withAssertion(assertionOf(client, gone), {}, { at }))
    const again = await register(client.clientId, [gone, kept])
    const minted = await withAssertion(assertionOf(client, gone), {}, { at: other })
    const { key_id } = claimsOf(JSON.parse(minted.body).access_token)
    expect(again.map((key) => key.key_id)).toContain(key_id)
    expect(first.map((key) => key.key_id)).not.toContain(key_id)
  })

  test('not one that is in use while it is revoked: 0 tokens after the answer', async () => {
    const client = await seedClient(sql)
    const pair = makePair('ES256', 'k')
    const [key] = await register(client.clientId, [pair])
    const late: number[] = []
    let revokedAt = Number.POSITIVE_INFINITY
    const load = Array.from({ length: 6 }, async (_, i) => {
      const at = i % 2 ? service : other
      for (let n = 0; n < 12; n++) {
        const began = performance.now()
        const { status } = await withAssertion(assertionOf(client, pair), {}, { at })
        if (began > revokedAt) late.push(status)
      }
    })
    await waitFor('a token', async () => {
      const rows = await sql`select from issued_tokens where client_id = ${client.clientId}`
      return rows.length > 3
    })
    expect((await operator.post(`/v2/keys/${key?.key_id}/revoke`)).status).toBe(200)
    revokedAt = performance.now()
    await Promise.all(load)
    for (let n = 0; n < 5; n++) late.push((await withAssertion(assertionOf(client, pair))).status)
    expect(new Set(late)).toEqual(new Set([401]))
  })

  test('F16 a row that is no key fails alone, loudly', async () => {
    const { client, pair } = await seed()
    const id = newId('key')
    const bad: Jwk = { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', alg: 'ES256', kid: 'bad' }
    await sql`insert into keys (id, client_id, public_jwk)
      values (${id}, ${client.clientId}, ${sql.json(bad as Record<string, string>)})`
    expect((await withAssertion(assertionOf(client, pair))).status).toBe(200)
    expect(service.logs.some((line) => line.includes(id))).toBe(true)
  })
})

describe('§3.2 the same answer, whatever is wrong with the client', () => {
  test.each(['pending_approval', 'suspended', 'revoked'] as const)('%s', async (status) => {
    const { client, pair } = await seed({ status })
    expectInvalidClient(await withAssertion(assertionOf(client, pair)))
  })

  test('its owner is suspended, since it was in memory', async () => {
    const { client, pair } = await seed()
    expect((await withAssertion(assertionOf(client, pair))).status).toBe(200)
    await sql`update organizations set status = 'suspended' where id = ${client.organizationId}`
    expectInvalidClient(await withAssertion(assertionOf(client, pair)))
  })

  test('its address is not allowed', async () => {
    const { client, pair } = await seed({ allowedCidrs: ['203.0.113.0/24'] })
    expectInvalidClient(await withAssertion(assertionOf(client, pair)))
  })

  test('A21 it belongs to the other issuer, whichever the assertion names', async () => {
    const production = await seed({ environment: 'production' })
    const asked = { environment: 'production' } as const
    const good = () => assertionOf(production.client, production.pair)
    expect((await withAssertion(good(), {}, asked)).status).toBe(200)
    expectInvalidClient(await withAssertion(good()))
    const claims = { aud: issuerOf(client) }
    expectInvalidClient(await withAssertion(assertionOf(production.client, production.pair, { claims })))
    expectInvalidClient(await present({}, {}, asked))
    expectInvalidClient(await present({ claims: { aud: issuerOf(production.client) } }, {}, asked))
  })

  test('it has no public key; a secret is none', async () => {
    const bare = await seedClient(sql)
    expectInvalidClient(await withAssertion(assertionOf(bare, pair)))
    const [header, payload] = assertionOf(bare, pair, { header: { alg: 'HS256' } }).split('.')
    const mac = createHmac('sha256', bare.key).update(`${header}.${payload}`).digest('base64url')
    expectInvalidClient(await withAssertion(`${header}.${payload}.${mac}`))
  })

  test('A33 the assertion says a thing twice', async () => {
    const [header = '', payload = ''] = assertionOf(client, pair).split('.')
    const text = (part: string) => Buffer.from(part, 'base64url').toString()
    const twice = text(payload).replace('{', '{"aud":"https://other.test",')
    expectInvalidClient(await withAssertion(sign(pair, text(header), twice)))
  })

  test('and never invalid_grant', async () => {
    const grant = { grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange' }
    expectInvalidClient(await present({ claims: { exp: 1 } }, grant))
  })
})

test('§2.2 oauth4webapi’s PrivateKeyJwt is taken as it is', async () => {
  for (const [alg, parameters] of [
    ['ES256', { name: 'ECDSA', namedCurve: 'P-256' }],
    ['Ed25519', { name: 'Ed25519' }],
  ] as const) {
    const client = await seedClient(sql)
    const keys = await oauth.generateKeyPair(alg, { extractable: true })
    const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', keys.publicKey)
    expect(keys.publicKey.algorithm).toMatchObject(parameters)
    const jwk = Object.fromEntries(
      Object.entries({ kty, crv, x, y }).filter(([, value]) => value !== undefined),
    )
    // Neither kid nor alg: what the client signs with is what follows from the key.
    const answer = await operator.post(`/v2/clients/${client.clientId}/jwks`, { keys: [jwk] })
    expect(answer.status, answer.text).toBe(200)
    const body = new URLSearchParams({ grant_type: 'client_credentials' })
    const authenticate = oauth.PrivateKeyJwt(keys.privateKey)
    await authenticate({ issuer: issuerOf(client) }, { client_id: client.clientId }, body, new Headers())
    expect(body.get('client_assertion_type')).toBe(JWT_BEARER)
    const minted = await post(Object.fromEntries(body))
    expect(minted.status, minted.body).toBe(200)
  }
})

test('A55 no assertion is in the log', async () => {
  const assertion = assertionOf(client, pair)
  await withAssertion(assertion)
  await withAssertion(assertion)
  for (const { logs } of [service, other, lenient])
    for (const part of assertion.split('.')) expect(logs.join('\n')).not.toContain(part.slice(0, 60))
})
