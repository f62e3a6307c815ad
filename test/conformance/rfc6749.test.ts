/** RFC 6749: the token endpoint of both issuers. */
import { gzipSync } from 'node:zlib'
import { decodeJwt } from 'jose'
import * as oauth from 'oauth4webapi'
import { describe, expect, test } from 'vitest'
import { MAX_SCOPES } from '../../src/management/wire.ts'
import {
  askToken,
  basic,
  basicOf,
  FORM,
  formOf,
  issuedOf,
  type Parameters,
  postForm,
  refusalOf,
  TOKEN_EXCHANGE,
  tokenPath,
} from '../oauth/calls.ts'
import { fingerprint, rawRequest, untilMinuteHasLeft } from '../support/mint.ts'
import { seedClient } from '../support/seed.ts'
import { ISSUER, SANDBOX_ISSUER, setUpService } from '../support/service.ts'

const { database, service } = await setUpService()
const { url } = service
const client = await seedClient(database.sql)
const suspended = await seedClient(database.sql, { status: 'suspended' })
const GRANT = { grant_type: 'client_credentials' }
const post = (body: string | Parameters, headers = [basic(client)] as (readonly [string, string])[]) =>
  postForm(url, body, { headers })
const invalidRequest = [400, 'invalid_request']
const invalidClient = [401, 'invalid_client']

describe('§3.2 the token endpoint', () => {
  test.each(['production', 'sandbox'] as const)('§3.2 takes POST only, of %s', async (environment) => {
    for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE']) {
      const answer = await rawRequest(url, { method, path: tokenPath(environment), headers: [basic(client)] })
      expect([answer.status, answer.headers.allow], method).toEqual([405, 'POST, OPTIONS'])
      expect(answer.headers['cache-control']).toBe('no-store')
      if (method !== 'HEAD') expect(refusalOf(answer)).toEqual([405, 'invalid_request'])
    }
  })

  test.each([
    'application/x-www-form-urlencoded',
    'Application/X-WWW-Form-URLencoded',
    'application/x-www-form-urlencoded; charset=utf-8',
    'application/x-www-form-urlencoded;charset="UTF-8"',
    'application/x-www-form-urlencoded;',
    'application/x-www-form-urlencoded; charset=us-ascii; x=y',
  ])('§3.2, appendix B it takes %s', async (type) => {
    const headers = [basic(client), ['Content-Type', type] as const]
    const answer = await rawRequest(url, { path: tokenPath('sandbox'), headers, body: formOf(GRANT) })
    expect(answer.status).toBe(200)
  })

  test.each([
    ['no type', undefined],
    ['JSON', 'application/json'],
    ['a multipart form', 'multipart/form-data; boundary=x'],
    ['text', 'text/plain'],
    ['another charset', 'application/x-www-form-urlencoded; charset=iso-8859-1'],
    ['another charset behind spaces', 'application/x-www-form-urlencoded ; charset = utf-16'],
    ['a charset that is cut off', 'application/x-www-form-urlencoded; charset="utf-8'],
    ['two types', 'application/x-www-form-urlencoded, application/json'],
    ['a longer name', 'application/x-www-form-urlencoded+json'],
  ])('§3.2 it refuses %s: invalid_request', async (_, type) => {
    const headers = [basic(client), ...(type === undefined ? [] : [['Content-Type', type] as const])]
    for (const body of [formOf(GRANT), JSON.stringify(GRANT), '']) {
      const answer = await rawRequest(url, { path: tokenPath('sandbox'), headers, body })
      expect(refusalOf(answer)).toEqual(invalidRequest)
    }
  })

  test('§3.2 a content coding: invalid_request', async () => {
    const headers = [basic(client), FORM, ['Content-Encoding', 'gzip'] as const]
    const body = gzipSync(formOf(GRANT))
    const answer = await rawRequest(url, { path: tokenPath('sandbox'), headers, body })
    expect(refusalOf(answer)).toEqual(invalidRequest)
  })

  test('§3.2 a body of 16 KiB is read; one byte more is 413, however it is sent', async () => {
    const body = `${formOf(GRANT)}&padding=`
    const full = body.padEnd(16 * 1024, 'x')
    expect((await post(full)).status).toBe(200)
    for (const more of [[], [['Transfer-Encoding', 'chunked'] as const]])
      expect(refusalOf(await post(`${full}x`, [basic(client), ...more]))).toEqual(invalidRequest.with(0, 413))
  })

  test('§3.2 a parameter that stands twice: invalid_request', async () => {
    for (const twice of [
      'grant_type=client_credentials&grant_type=client_credentials',
      'grant_type=client_credentials&scope=transactions:read&scope=person:write',
      'grant_type=client_credentials&scope=&scope=transactions:read',
      'grant_type=client_credentials&sc%6Fpe=transactions:read&scope=person:write',
      'grant_type=client_credentials&unknown=1&unknown=1',
      'grant_type=client_credentials&__proto__=1&__proto__=2',
      `grant_type=client_credentials&client_id=${client.clientId}&client_id=${client.clientId}`,
    ])
      expect(refusalOf(await post(twice)), twice).toEqual(invalidRequest)
  })

  test('§3.2 a parameter without a value counts as absent', async () => {
    for (const empty of ['scope=', 'scope', 'organization_id=', 'audience=', 'resource=&resource=']) {
      const { scope } = issuedOf(await post(`${formOf(GRANT)}&${empty}`))
      expect(scope).toBe('transactions:read person:write')
    }
    for (const empty of ['client_secret=', 'client_assertion=', 'client_assertion_type=', 'client_id='])
      expect((await post(`${formOf(GRANT)}&${empty}`)).status, empty).toBe(200)
    expect(refusalOf(await post('grant_type='))).toEqual(invalidRequest)
  })

  test('§3.2 parameters that are not known are ignored', async () => {
    const parameters = { ...GRANT, nonce: 'x', expiry_seconds: '7', iss: 'https://evil.test', sub: 'admin' }
    const { access_token } = issuedOf(await post({ ...parameters, constructor: 'x', tenantId: 'y' }))
    expect(decodeJwt(access_token)).toMatchObject({ iss: SANDBOX_ISSUER, sub: client.clientId })
    expect(issuedOf(await post('&&grant_type=client_credentials&__proto__=1&=&')).expires_in).toBe(3600)
  })

  test('appendix B what is not properly encoded: invalid_request', async () => {
    for (const bad of ['%zz', '%', '%4', '%ff', '%ed%a0%80', '%c0%80'])
      for (const body of [`${formOf(GRANT)}&scope=${bad}`, `${formOf(GRANT)}&x${bad}=1`])
        expect(refusalOf(await post(body)), body).toEqual(invalidRequest)
    const raw = Buffer.concat([Buffer.from(`${formOf(GRANT)}&x=`), Buffer.from([0xff])])
    const headers = [basic(client), FORM]
    const answer = await rawRequest(url, { path: tokenPath('sandbox'), headers, body: raw })
    expect(refusalOf(answer)).toEqual(invalidRequest)
  })
})

describe('§2.3.1 the client’s secret', () => {
  test('§2.3.1 credentials in the query are never looked at', async () => {
    const query = formOf({ client_id: client.clientId, client_secret: client.key })
    const path = `${tokenPath('sandbox')}?${query}`
    expect(refusalOf(await postForm(url, GRANT, { path }))).toEqual(invalidClient)
    const everything = `${tokenPath('sandbox')}?${query}&${formOf(GRANT)}`
    expect(refusalOf(await postForm(url, '', { path: everything }))).toEqual(invalidRequest)
    // Nor does it disturb who is authenticated otherwise.
    expect((await postForm(url, GRANT, { path, headers: [basic(client)] })).status).toBe(200)
  })

  test('§2.3.1 with Basic, each half form-encoded, as strictly or as loosely as clients do', async () => {
    const strictly = (text: string) =>
      text.replace(/[^A-Za-z0-9]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    const everything = (text: string) => [...text].map((c) => `%${c.charCodeAt(0).toString(16)}`).join('')
    for (const encode of [(text: string) => text, strictly, everything, encodeURIComponent]) {
      const line = ['Authorization', basicOf(encode(client.clientId), encode(client.key))] as const
      expect((await post(GRANT, [line])).status).toBe(200)
    }
    for (const secret of [
      `${client.key}%`,
      `${client.key}%zz`,
      `${client.key}+`,
      `+${client.key}`,
      `:${client.key}`,
    ])
      expect(refusalOf(await post(GRANT, [['Authorization', basicOf(client.clientId, secret)]]))).toEqual(
        invalidClient,
      )
  })

  test('§2.3.1 the scheme in any case (RFC 9110 §11.1)', async () => {
    const [, credentials = ''] = basic(client)[1].split(' ')
    for (const scheme of ['basic', 'BASIC', 'bAsIc', 'Basic '])
      expect((await post(GRANT, [['Authorization', `${scheme} ${credentials}`]])).status, scheme).toBe(200)
  })

  test('§2.3.1 A5 another scheme, or what is no Basic: invalid_client', async () => {
    const [, credentials = ''] = basic(client)[1].split(' ')
    for (const value of [
      `Bearer ${client.key}`,
      client.key,
      `Token ${credentials}`,
      `Basic${credentials}`,
      `Basic\t${credentials}`,
      `Basic ${credentials}, Basic ${credentials}`,
      `Basic ${credentials} x`,
      'Basic',
      'Basic ',
      'Basic !!!!',
      `Basic ${Buffer.from(client.key).toString('base64')}`,
      '',
    ])
      expect(refusalOf(await post(GRANT, [['Authorization', value]])), value).toEqual(invalidClient)
  })

  test('§2.3.1 in the body', async () => {
    const own = { ...GRANT, client_id: client.clientId, client_secret: client.key }
    expect((await post(own, [])).status).toBe(200)
    for (const parameters of [
      { ...GRANT, client_secret: client.key },
      { ...GRANT, client_id: client.clientId },
      { ...own, client_id: client.clientId.toUpperCase() },
      { ...own, client_secret: `${client.key} ` },
      { ...own, client_secret: client.key.toUpperCase() },
      GRANT,
    ])
      expect(refusalOf(await post(parameters, []))).toEqual(invalidClient)
  })

  test('§2.3 A4 more than one way to authenticate: invalid_request, even where both are right', async () => {
    const own = { client_id: client.clientId, client_secret: client.key }
    const assertion = {
      client_assertion: 'a.b.c',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    }
    const both: [Record<string, string>, (readonly [string, string])[]][] = [
      [own, [basic(client)]],
      [{ client_secret: client.key }, [basic(client)]],
      [assertion, [basic(client)]],
      [{ ...own, ...assertion }, []],
      [{}, [basic(client), basic(client)]],
      [{}, [basic(client), ['Authorization', `Bearer ${client.key}`]]],
    ]
    for (const [parameters, headers] of both)
      expect(refusalOf(await post({ ...GRANT, ...parameters }, headers))).toEqual(invalidRequest)
  })

  test('§2.3.1 Basic and a client_id in the body: the same, or invalid_request', async () => {
    expect((await post({ ...GRANT, client_id: client.clientId })).status).toBe(200)
    const other = await seedClient(database.sql)
    for (const clientId of [other.clientId, client.clientId.toUpperCase(), 'x'])
      expect(refusalOf(await post({ ...GRANT, client_id: clientId }))).toEqual(invalidRequest)
  })

  test('§5.2 a failed authentication: 401 with a challenge, whichever way it was tried', async () => {
    for (const [parameters, headers] of [
      [{}, [['Authorization', basicOf(client.clientId, 'x')] as const]],
      [{ client_id: client.clientId, client_secret: 'x' }, []],
      [{}, []],
    ] as const) {
      const answer = await post({ ...GRANT, ...parameters }, [...headers])
      expect(refusalOf(answer)).toEqual(invalidClient)
      expect(answer.headers['www-authenticate']).toBe('Basic realm="signet", charset="UTF-8"')
    }
  })
})

describe('§5.2 the order of errors, and their codes', () => {
  const wrong = ['Authorization', basicOf(client.clientId, 'x')] as const

  test('§5.2 no grant_type: invalid_request, before anything is asked of the client', async () => {
    expect(refusalOf(await post('scope=a', [wrong]))).toEqual(invalidRequest)
    expect(refusalOf(await post('', []))).toEqual(invalidRequest)
  })

  test('§5.2 invalid_client comes before what is wrong with the grant and its parameters', async () => {
    for (const parameters of [
      { grant_type: 'password' },
      { ...GRANT, scope: '"' },
      { ...GRANT, signet_expires_in_seconds: '1' },
      { ...GRANT, resource: 'x' },
      { grant_type: TOKEN_EXCHANGE },
    ])
      for (const line of [wrong, basic(suspended)])
        expect(refusalOf(await post(parameters, [line]))).toEqual(invalidClient)
  })

  test('§5.2, RFC 9700 §2.4 grants that do not exist here: unsupported_grant_type', async () => {
    for (const grant of [
      'password',
      'implicit',
      'authorization_code',
      'refresh_token',
      'CLIENT_CREDENTIALS',
      'client_credentials ',
      'urn:ietf:params:oauth:grant-type:jwt-bearer',
      'constructor',
    ])
      expect(refusalOf(await post({ grant_type: grant, scope: '"' })), grant).toEqual([
        400,
        'unsupported_grant_type',
      ])
  })

  test('§5.2 parameters, then target, then scope', async () => {
    const all = { ...GRANT, signet_expires_in_seconds: '0', resource: '#', scope: '"' }
    expect(refusalOf(await post(all))).toEqual(invalidRequest)
    expect(refusalOf(await post({ ...all, signet_expires_in_seconds: '300' }))).toEqual([
      400,
      'invalid_target',
    ])
    expect(refusalOf(await post({ ...GRANT, scope: '"' }))).toEqual([400, 'invalid_scope'])
  })

  test('§5.2 A62 errors hold none of what was sent, and only the characters they may', async () => {
    const sent = 'c4n4ry"\\\u2028é'
    for (const parameters of [
      { grant_type: sent },
      { ...GRANT, scope: sent },
      { ...GRANT, organization_id: sent },
      { ...GRANT, organization_id: 'org_\u0000' },
      { ...GRANT, resource: sent },
      { ...GRANT, signet_expires_in_seconds: sent },
      { ...GRANT, client_id: sent },
      { grant_type: TOKEN_EXCHANGE, subject_token: sent, subject_token_type: sent },
    ]) {
      const answer = await post(parameters)
      expect(answer.status).toBe(400)
      expect(answer.headers['content-type']).toBe('application/json')
      expect(answer.headers['cache-control']).toBe('no-store')
      expect(answer.headers.pragma).toBe('no-cache')
      const body = JSON.parse(answer.body)
      expect(Object.keys(body)).toEqual(['error', 'error_description'])
      for (const text of Object.values(body)) {
        expect(text).toMatch(/^[\x20-\x21\x23-\x5B\x5D-\x7E]+$/)
        expect(text).not.toContain('c4n4ry')
      }
    }
  })

  test('§5.2 429: temporarily_unavailable, with Retry-After and the RateLimit fields', async () => {
    const limited = await seedClient(database.sql, { rateLimitPerMinute: 1 })
    await untilMinuteHasLeft(database.sql, 5)
    const first = await askToken(url, limited)
    expect(first.headers['ratelimit-policy']).toBe('"per-client";q=1;w=60')
    expect(first.headers.ratelimit).toMatch(/^"per-client";r=0;t=\d+$/)
    // Once from the database, once from memory, which comes before what is asked for.
    for (const parameters of [{}, { grant_type: 'password' }]) {
      const answer = await askToken(url, limited, parameters)
      expect(refusalOf(answer)).toEqual([429, 'temporarily_unavailable'])
      expect(answer.headers['ratelimit-policy']).toBe('"per-client";q=1;w=60')
      expect(Number(answer.headers['retry-after'])).toBeGreaterThanOrEqual(1)
      expect(answer.headers['cache-control']).toBe('no-store')
    }
  })

  test('§5.2 503: temporarily_unavailable, with Retry-After', async () => {
    const unknown = await seedClient(database.sql)
    await database.sql`alter table keys rename to keys_away`
    try {
      const answer = await askToken(url, unknown)
      expect(refusalOf(answer)).toEqual([503, 'temporarily_unavailable'])
      expect(answer.headers['retry-after']).toBe('1')
      expect(answer.headers['cache-control']).toBe('no-store')
    } finally {
      await database.sql`alter table keys_away rename to keys`
    }
  })
})

describe('§4.4 client_credentials', () => {
  test.each(['production', 'sandbox'] as const)('§5.1 the answer, of %s', async (environment) => {
    const own = await seedClient(database.sql, { environment })
    const answer = await askToken(url, own, { scope: 'person:write', signet_expires_in_seconds: '900' })
    expect(answer.status).toBe(200)
    expect(answer.headers['content-type']).toBe('application/json')
    expect(answer.headers['cache-control']).toBe('no-store')
    expect(answer.headers.pragma).toBe('no-cache')
    const issued = issuedOf(answer)
    const { iat = 0, exp = 0 } = decodeJwt(issued.access_token)
    // §4.4.3: no refresh token.
    expect(issued).toEqual({
      access_token: expect.any(String),
      token_type: 'Bearer',
      expires_in: exp - iat,
      scope: 'person:write',
    })
    expect(issued.expires_in).toBe(900)
  })

  test('§3.3 no scope: all that the client may grant', async () => {
    const own = await seedClient(database.sql, { scopes: ['b', 'a'] })
    const { scope, access_token } = issuedOf(await askToken(url, own))
    expect(scope).toBe('b a')
    expect(decodeJwt(access_token).scope).toBe('b a')
  })

  test('§3.3 no scope, of a client with management scopes and others: invalid_scope, until an audience or scopes are named', async () => {
    const scopes = ['signet:keys:read', 'orders:read']
    const own = await seedClient(database.sql, { scopes, environment: 'production' })
    expect(refusalOf(await askToken(url, own))).toEqual([400, 'invalid_scope'])
    expect(issuedOf(await askToken(url, own, { resource: ISSUER })).scope).toBe('signet:keys:read')
    expect(issuedOf(await askToken(url, own, { audience: 'https://api.test' })).scope).toBe('orders:read')
    expect(issuedOf(await askToken(url, own, { scope: 'orders:read' })).scope).toBe('orders:read')
    expect(refusalOf(await askToken(url, own, { scope: scopes.join(' ') }))).toEqual([400, 'invalid_scope'])
  })

  test('§3.3 scopes are case-sensitive, in any order; duplicates collapse', async () => {
    const own = await seedClient(database.sql, { scopes: ['a', 'b', '!#[]~'] })
    expect(issuedOf(await askToken(url, own, { scope: 'b a b a' })).scope).toBe('b a')
    expect(issuedOf(await askToken(url, own, { scope: '!#[]~' })).scope).toBe('!#[]~')
    for (const scope of [
      'A',
      'a B',
      'a  b',
      ' a',
      'a ',
      ' ',
      'a\tb',
      'a\nb',
      'a"',
      'a\\',
      'ä',
      'a\u007f',
      'a,b',
    ])
      expect(refusalOf(await askToken(url, own, { scope })), JSON.stringify(scope)).toEqual([
        400,
        'invalid_scope',
      ])
  })

  test('§3.3 A14 a scope that is not granted: invalid_scope, and no token with the others', async () => {
    const own = await seedClient(database.sql, { scopes: ['read:orders', 'read:*'] })
    for (const scope of ['read:orders admin', '*', 'read:other', 'READ:ORDERS', 'read:orders:*'])
      expect(refusalOf(await askToken(url, own, { scope }))).toEqual([400, 'invalid_scope'])
    expect(await database.sql`select from issued_tokens where client_id = ${own.clientId}`).toHaveLength(0)
  })

  test('§3.3 as many scopes as a client may hold, and no more', async () => {
    const scopes = Array.from({ length: MAX_SCOPES }, (_, i) => `scope:${i}`)
    const own = await seedClient(database.sql, { scopes })
    expect(issuedOf(await askToken(url, own, { scope: scopes.join(' ') })).scope).toBe(scopes.join(' '))
    const more = [...scopes, 'scope:100'].join(' ')
    expect(refusalOf(await askToken(url, own, { scope: more }))).toEqual([400, 'invalid_scope'])
    expect(refusalOf(await askToken(url, own, { scope: 'x'.repeat(129) }))).toEqual([400, 'invalid_scope'])
  })

  test('§8.2 signet_expires_in_seconds: A12 digits within the bounds, never cut to fit', async () => {
    const own = await seedClient(database.sql, { maxExpirySeconds: 7200 })
    const ask = (seconds: string) => askToken(url, own, { signet_expires_in_seconds: seconds })
    for (const seconds of ['300', '3601', '7200'])
      expect(issuedOf(await ask(seconds)).expires_in).toBe(Number(seconds))
    for (const seconds of [
      '7201',
      '299',
      '-1',
      '0',
      '1e9',
      '1e3',
      '"900"',
      'NaN',
      '900.0',
      '0900',
      '+900',
      ' 900',
    ])
      expect(refusalOf(await ask(seconds)), seconds).toEqual(invalidRequest)
    for (const seconds of ['86401', '0x384', '٩٠٠', '900 ', '9'.repeat(400)])
      expect(refusalOf(await ask(seconds)), seconds).toEqual(invalidRequest)
    // §3.2: empty is absent.
    expect(issuedOf(await ask('')).expires_in).toBe(3600)
    const low = await seedClient(database.sql, { maxExpirySeconds: 600 })
    expect(issuedOf(await askToken(url, low)).expires_in).toBe(600)
  })
})

describe('§2.3.1 an independent client', () => {
  const as: oauth.AuthorizationServer = {
    issuer: SANDBOX_ISSUER,
    token_endpoint: `${url}${tokenPath('sandbox')}`,
  }
  const options = { [oauth.allowInsecureRequests]: true } as const

  test.each([
    ['client_secret_basic', oauth.ClientSecretBasic],
    ['client_secret_post', oauth.ClientSecretPost],
  ])('§2.3.1 completes %s', async (_, authenticate) => {
    const self = { client_id: client.clientId }
    const response = await oauth.clientCredentialsGrantRequest(
      as,
      self,
      authenticate(client.key),
      { scope: 'person:write' },
      options,
    )
    const issued = await oauth.processClientCredentialsResponse(as, self, response)
    // Which writes it in lower case.
    expect(issued).toMatchObject({ token_type: 'bearer', expires_in: 3600, scope: 'person:write' })
  })

  test('§5.2 reads the errors', async () => {
    const self = { client_id: client.clientId }
    const ask = async (authentication: oauth.ClientAuth, scope: string) =>
      oauth.processClientCredentialsResponse(
        as,
        self,
        await oauth.clientCredentialsGrantRequest(as, self, authentication, { scope }, options),
      )
    await expect(ask(oauth.ClientSecretPost(client.key), 'admin')).rejects.toMatchObject({
      error: 'invalid_scope',
      status: 400,
    })
    // With a challenge, that is what it heeds first.
    await expect(ask(oauth.ClientSecretBasic('x'), 'admin')).rejects.toThrow(
      oauth.WWWAuthenticateChallengeError,
    )
  })
})

test('§2.3.1 unknown, wrong, expired, revoked, suspended, from elsewhere, of the other issuer: the same bytes', async () => {
  const other = await seedClient(database.sql)
  const expired = await seedClient(database.sql, { keyExpiresAt: new Date(Date.now() - 1000) })
  const revoked = await seedClient(database.sql)
  // Remembered as good.
  expect((await askToken(url, revoked)).status).toBe(200)
  await database.sql`update keys set revoked_at = now() where id = ${revoked.keyId}`
  const ownedBySuspended = await seedClient(database.sql)
  await database.sql`update organizations set status = 'suspended' where id = ${ownedBySuspended.organizationId}`
  const production = await seedClient(database.sql, { environment: 'production' })
  const forged = client.key.slice(0, -1) + (client.key.endsWith('0') ? '1' : '0')
  const clients = [
    { clientId: client.clientId, key: other.key },
    { clientId: other.clientId, key: client.key },
    { clientId: 'cli_unknown', key: client.key },
    { clientId: client.clientId, key: forged },
    { clientId: client.clientId, key: 'x' },
    { clientId: '', key: client.key },
    expired,
    revoked,
    revoked,
    ownedBySuspended,
    await seedClient(database.sql, { status: 'suspended' }),
    await seedClient(database.sql, { status: 'revoked' }),
    await seedClient(database.sql, { status: 'pending_approval' }),
    await seedClient(database.sql, { allowedCidrs: ['192.0.2.0/24'] }),
    await seedClient(database.sql, { allowedCidrs: [] }),
    // A21: the sandbox issuer is asked.
    production,
  ]
  const expected = fingerprint(await post(GRANT, [['Authorization', basicOf('cli_nobody', 'nothing')]]))
  expect(expected).toMatchObject({ status: 401 })
  for (const each of clients)
    for (const parameters of [GRANT, { ...GRANT, scope: '"' }, { grant_type: 'password' }]) {
      const { clientId, key } = each
      expect(fingerprint(await post(parameters, [basic({ clientId, key })]))).toEqual(expected)
      if (clientId !== '')
        expect(
          fingerprint(await post({ ...parameters, client_id: clientId, client_secret: key }, [])),
        ).toEqual(expected)
    }
  // A21: and the reverse.
  const reverse = await postForm(url, GRANT, { headers: [basic(client)], path: tokenPath('production') })
  expect(fingerprint(reverse)).toEqual(expected)
})
