/** RFC 7662: token introspection. */

import { createHmac, createPrivateKey, generateKeyPairSync, sign } from 'node:crypto'
import { Readable } from 'node:stream'
import { Hono } from 'hono'
import { SignJWT } from 'jose'
import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { renderOAuthError } from '../../src/http/oauth-error.ts'
import type { RequestEnv } from '../../src/http/request-context.ts'
import { newId, newJti } from '../../src/ids.ts'
import { answerIntrospection } from '../../src/oauth/introspect.ts'
import { issuersOf } from '../../src/oauth/issuers.ts'
import type { Signer } from '../../src/signing/signer.ts'
import type { InspectToken } from '../../src/tokens/inspection.ts'
import { createForger } from '../management/forged-token.ts'
import { apiOfOperator } from '../support/management.ts'
import { type SeededClient, seedClient, seedDelegation, seedKey, seedOrganization } from '../support/seed.ts'
import { DEFAULT_AUDIENCE, ISSUER, SANDBOX_ISSUER, setUpService } from '../support/service.ts'
import { ask, basic, claimsOf, flip, introspect, tokenFrom } from '../tokens/calls.ts'

const { database, service } = await setUpService()
const { sql } = database
const { url } = service
const client = await seedClient(sql, { environment: 'production' })
const token = await tokenFrom(url, client)
const sandboxClient = await seedClient(sql, { organizationId: client.organizationId })
const sandboxToken = await tokenFrom(url, sandboxClient)
const forger = await createForger(database)

const INACTIVE = '{"active":false}'
const text = async (presented: string, caller: SeededClient = client) =>
  (await ask(url, 'introspect', caller, { token: presented })).text()

/** A production token with a good signature, in the ledger as it says, unless told otherwise. */
async function issue(claims: Record<string, unknown> = {}, isRecorded = true): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  const said = {
    ...{ iat: now, exp: now + 300, jti: newJti(), scope: 'transactions:read', aud: DEFAULT_AUDIENCE },
    ...claims,
  }
  if (isRecorded)
    await sql`
      insert into issued_tokens (jti, issued_at, expires_at, key_id, client_id, organization_id, environment, scopes,
        audience, kid, request_id)
      values (${String(said.jti)}, to_timestamp(${Number(said.iat)}), to_timestamp(${Number(said.exp)}),
        ${client.keyId}, ${client.clientId}, ${client.organizationId}, 'production', '{transactions:read}',
        ${DEFAULT_AUDIENCE}, ${forger.kid}, 'r')`
  return forger.sign(client, said)
}

describe('§2.1 the request', () => {
  test.each(['GET', 'HEAD', 'PUT', 'DELETE'])('%s is not for it: 405, with Allow', async (method) => {
    const answer = await fetch(`${url}/oauth2/introspect?token=${token}`, { method })
    expect(answer.status).toBe(405)
    expect(answer.headers.get('allow')).toBe('POST')
  })

  test('the token is missing, or empty: invalid_request', async () => {
    for (const body of ['', 'token=', 'token_type_hint=access_token', `Token=${token}`]) {
      const answer = await ask(url, 'introspect', client, body)
      expect(answer.status).toBe(400)
      expect(await answer.json()).toMatchObject({ error: 'invalid_request' })
    }
  })

  test('the query holds no parameter', async () => {
    const path = `/oauth2/introspect?token=${token}&client_id=${client.clientId}&client_secret=${client.key}`
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
    const answer = await fetch(`${url}${path}`, { method: 'POST', headers: form, body: '' })
    expect(answer.status).toBe(401)
    const known = { ...form, Authorization: basic(client) }
    expect((await fetch(`${url}${path}`, { method: 'POST', headers: known, body: '' })).status).toBe(400)
  })

  test('another media type, a parameter that stands twice, malformed encoding: invalid_request', async () => {
    for (const [body, type] of [
      [JSON.stringify({ token }), 'application/json'],
      [`token=${token}&token=${token}`, 'application/x-www-form-urlencoded'],
      ['token=%zz', 'application/x-www-form-urlencoded'],
    ] as const) {
      const answer = await ask(url, 'introspect', client, body, { 'Content-Type': type })
      expect(answer.status).toBe(400)
      expect(await answer.json()).toMatchObject({ error: 'invalid_request' })
    }
  })

  test.each(['access_token', 'refresh_token', 'urn:unknown', ''])(
    'token_type_hint %j finds it all the same',
    async (hint) => {
      const answer = await ask(url, 'introspect', client, { token, token_type_hint: hint })
      expect(await answer.json()).toMatchObject({ active: true })
    },
  )
})

describe('§2.1 the caller is authorized', () => {
  test('with client_secret_basic, or client_secret_post', async () => {
    const answer = await fetch(`${url}/oauth2/introspect`, {
      method: 'POST',
      body: new URLSearchParams({ token, client_id: client.clientId, client_secret: client.key }),
    })
    expect(await answer.json()).toMatchObject({ active: true })
  })

  test('§2.3 whatever is wrong with it: 401 invalid_client, a challenge, the same bytes', async () => {
    const other = await seedClient(sql, { environment: 'production' })
    const expired = await seedKey(sql, client.clientId, 'production', new Date(Date.now() - 1000))
    const revoked = await seedKey(sql, client.clientId, 'production')
    await sql`update keys set revoked_at = now() where id = ${revoked.keyId}`
    const secretOf = (clientId: string, key: string) => ({ Authorization: basic({ clientId, key }) })
    const closed = await seedClient(sql, { environment: 'production', allowedCidrs: [] })
    const suspended = await seedClient(sql, { environment: 'production', status: 'suspended' })
    const pending = await seedClient(sql, { environment: 'production', status: 'pending_approval' })
    const ofSuspended = await seedClient(sql, { environment: 'production' })
    await sql`update organizations set status = 'suspended' where id = ${ofSuspended.organizationId}`
    const answers = await Promise.all(
      [
        secretOf(client.clientId, flip(client.key)),
        secretOf(newId('client'), client.key),
        secretOf(client.clientId, other.key),
        secretOf(client.clientId, expired.key),
        secretOf(client.clientId, revoked.key),
        secretOf(closed.clientId, closed.key),
        secretOf(suspended.clientId, suspended.key),
        secretOf(pending.clientId, pending.key),
        secretOf(ofSuspended.clientId, ofSuspended.key),
        // A21: of the other issuer.
        secretOf(sandboxClient.clientId, sandboxClient.key),
        { Authorization: `Bearer ${token}` },
        { Authorization: `Bearer ${client.key}` },
        { Authorization: 'Basic !' },
        { Authorization: '' },
      ].map(async (headers) => {
        const answer = await ask(url, 'introspect', client, { token }, headers as Record<string, string>)
        const { 'x-request-id': _id, date: _date, ...fields } = Object.fromEntries(answer.headers)
        return { status: answer.status, fields, body: await answer.text() }
      }),
    )
    expect(answers[0]).toMatchObject({ status: 401, fields: { 'cache-control': 'no-store' } })
    expect(answers[0]?.fields['www-authenticate']).toMatch(/^Basic realm=/)
    expect(JSON.parse(answers[0]?.body ?? '')).toMatchObject({ error: 'invalid_client' })
    for (const answer of answers) expect(answer).toEqual(answers[0])
  })

  test('§4 a key that was revoked one request earlier opens nothing', async () => {
    const { keyId, key } = await seedKey(sql, client.clientId, 'production')
    const caller = { ...client, key }
    expect((await introspect(url, caller, token)).active).toBe(true)
    await sql`update keys set revoked_at = now() where id = ${keyId}`
    expect((await ask(url, 'introspect', caller, { token })).status).toBe(401)
  })

  test('two ways at once: invalid_request', async () => {
    const answer = await ask(url, 'introspect', client, { token, client_secret: client.key })
    expect(answer.status).toBe(400)
    expect(await answer.json()).toMatchObject({ error: 'invalid_request' })
  })

  test('the trail says why; who asked is named only where it was proved', async () => {
    const suspended = await seedClient(sql, { environment: 'production', status: 'suspended' })
    await ask(url, 'introspect', suspended, { token })
    await expect
      .poll(
        () => sql`select action, actor_key_id, details->>'operation' as operation, details->>'code' as code
          from audit_events where actor_client_id = ${suspended.clientId}`,
        { timeout: 10_000 },
      )
      .toEqual([
        {
          action: 'request.refused',
          actor_key_id: suspended.keyId,
          operation: 'introspectToken',
          code: 'client_suspended',
        },
      ])
    const codes = await sql`
      select distinct details->>'code' as code from audit_events
      where details->>'operation' = 'introspectToken' and actor_client_id is null order by code`
    expect(codes.map(({ code }) => code)).toEqual(expect.arrayContaining(['key_malformed', 'key_unknown']))
  })
})

describe('§2.2 the answer', () => {
  test('of an active token: what it says, and nothing is left to be remembered', async () => {
    const answer = await ask(url, 'introspect', client, { token })
    expect(answer.headers.get('content-type')).toBe('application/json')
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(answer.headers.get('pragma')).toBe('no-cache')
    const { iat, exp, jti } = claimsOf(token)
    expect(await answer.json()).toEqual({
      active: true,
      scope: 'transactions:read person:write',
      client_id: client.clientId,
      token_type: 'Bearer',
      exp,
      iat,
      sub: client.clientId,
      aud: DEFAULT_AUDIENCE,
      iss: ISSUER,
      jti,
      organization_id: client.organizationId,
      environment: 'production',
      key_id: client.keyId,
    })
  })

  test('of a partner’s token: the partner too; RFC 8693 §4.1 of one that was had for another: who acts', async () => {
    const partner = await seedClient(sql, { kind: 'partner' })
    const target = await seedOrganization(sql)
    await seedDelegation(sql, { organizationId: target, partnerId: partner.organizationId })
    const minted = await tokenFrom(url, partner, target)
    expect(await introspect(url, partner, minted)).toMatchObject({
      active: true,
      iss: SANDBOX_ISSUER,
      organization_id: target,
      partner_id: partner.organizationId,
    })
    const act = { iss: ISSUER, sub: client.clientId, act: { iss: ISSUER, sub: client.clientId } }
    expect(await introspect(url, client, await issue({ act }))).toMatchObject({ active: true, act })
  })

  describe('A27-A36 of what is none of ours, is over, or is not yet: active false, and not one member more', () => {
    const now = Math.floor(Date.now() / 1000)
    const [header = '', payload = '', signature = ''] = token.split('.')
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const headed = (more: object, by = signature) =>
      `${encode({ ...JSON.parse(Buffer.from(header, 'base64url').toString()), ...more })}.${payload}.${by}`
    const hmac = (more: object, secret: string) => {
      const input = headed(more).split('.').slice(0, 2).join('.')
      return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
    }
    const thief = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const der = createPrivateKey(thief.privateKey.export({ type: 'pkcs8', format: 'pem' }))
    const cases: Record<string, string | Promise<string>> = {
      'one character': 'x',
      'a key': client.key,
      dots: '.'.repeat(10_000),
      'five segments': `${token}.a.b`,
      'a changed signature': flip(token),
      padding: `${token}=`,
      'white space': `${token} `,
      'alg none': headed({ alg: 'none' }, ''),
      'alg nOnE': headed({ alg: 'nOnE' }),
      'alg in a list': headed({ alg: ['ES256'] }),
      'HS256 by the public key': hmac({ alg: 'HS256' }, forger.publicPem),
      'HS256 by the public key, without its last line': hmac({ alg: 'HS256' }, forger.publicPem.trim()),
      'an unknown kid': headed({ kid: 'x'.repeat(43) }),
      'a kid that is a path': headed({ kid: '../../dev/null' }),
      'a kid that is SQL': headed({ kid: "' OR 1=1--" }),
      'a kid that is a number': headed({ kid: 1 }),
      'the signature in DER': `${header}.${payload}.${sign('sha256', Buffer.from(`${header}.${payload}`), der).toString('base64url')}`,
      'a critical extension': forger.sign(client, {}, { crit: ['b64'], b64: true }),
      'typ JWT': issue().then(() => forger.sign(client, {}, { typ: 'JWT' })),
      'its own key in the header': new SignJWT({ iss: ISSUER })
        .setProtectedHeader({
          alg: 'ES256',
          typ: 'at+jwt',
          jwk: thief.publicKey.export({ format: 'jwk' }) as never,
        })
        .sign(thief.privateKey),
      'a key elsewhere': headed({ jku: `${url}/keys`, x5u: `${url}/keys` }),
      'of the other issuer': sandboxToken,
      expired: issue({ iat: now - 300, exp: now }),
      'of tomorrow': issue({ iat: now + 86_400, exp: now + 90_000 }),
      'not before tomorrow': issue({ nbf: now + 86_400 }),
      'never issued, by our key': issue({}, false),
      'issued at another time': issue().then(async (good) =>
        forger.sign(client, { ...claimsOf(good), iat: now - 1 }),
      ),
      'with the id of another token': issue().then((good) =>
        forger.sign(client, { ...claimsOf(good), scope: 'transactions:read person:write' }),
      ),
      'for another audience than was issued': issue().then((good) =>
        forger.sign(client, { ...claimsOf(good), aud: 'https://other.test' }),
      ),
      'for longer than was issued': issue().then((good) =>
        forger.sign(client, { ...claimsOf(good), exp: claimsOf(good).exp + 1 }),
      ),
      'for another organization than was issued': issue().then((good) =>
        forger.sign(client, { ...claimsOf(good), organization_id: newId('organization') }),
      ),
      'by a partner, where there was none': issue().then((good) =>
        forger.sign(client, { ...claimsOf(good), partner_id: client.organizationId }),
      ),
      'with another subject': issue().then((good) => forger.sign(client, { ...claimsOf(good), sub: 'user' })),
      'of another issuer': issue({ iss: SANDBOX_ISSUER }),
      'of an issuer in a list': issue({ iss: [ISSUER] }),
      'of another environment': issue({ environment: 'sandbox' }),
      'with an id that is none': forger.sign(client, { jti: { a: 1 } }),
      'with SQL for an id': forger.sign(client, { jti: "' or true --" }),
      'with a fraction of a second': forger.sign(client, { iat: now - 0.5 }),
      'with a time beyond all': forger.sign(client, { iat: 2 ** 60 }),
      'with a negative time': forger.sign(client, { iat: -1 }),
      'with a text for a time': forger.sign(client, { exp: '9999999999' }),
      'without an end': forger.sign(client, { exp: undefined }),
      'with two audiences': forger.sign(client, { aud: [DEFAULT_AUDIENCE, 'x'] }),
    }
    test.each(Object.entries(cases))('%s', async (_what, presented) => {
      expect(await text(await presented)).toBe(INACTIVE)
    })

    test('and a token like those, with nothing amiss, is active', async () => {
      expect(JSON.parse(await text(await issue()))).toMatchObject({ active: true })
      // Another instance's clock may be a little ahead.
      expect(JSON.parse(await text(await issue({ iat: now + 5, exp: now + 305 })))).toMatchObject({
        active: true,
      })
      expect(JSON.parse(await text(sandboxToken, sandboxClient))).toMatchObject({ active: true })
      expect(await text(token, sandboxClient)).toBe(INACTIVE)
    })

    test('A35 8 MB: 413, before anything is decoded', async () => {
      const answer = await ask(url, 'introspect', client, `token=${'x'.repeat(8_000_000)}`).catch(
        () => undefined,
      )
      // The connection may be closed before all of it is sent.
      expect([413, undefined]).toContain(answer?.status)
    })
  })

  test('not for this caller: as if there were none', async () => {
    const [owner, target] = [await seedClient(sql, { kind: 'partner' }), await seedClient(sql)]
    await seedDelegation(sql, { organizationId: target.organizationId, partnerId: owner.organizationId })
    const minted = await tokenFrom(url, owner, target.organizationId)
    const colleague = await seedClient(sql, { organizationId: owner.organizationId })
    const stranger = await seedClient(sql)
    const [platform] = await sql`select id from organizations where platform`
    const operator = await seedClient(sql, { organizationId: platform?.id })
    const answers: [SeededClient, boolean][] = [
      // Whose client minted it, any client of that owner, whom it is for, and the platform.
      ...[owner, colleague, target, operator].map((each) => [each, true] as [SeededClient, boolean]),
      [stranger, false],
    ]
    for (const [caller, active] of answers)
      expect((await introspect(url, caller, minted)).active).toBe(active)
    expect(await text(minted, stranger)).toBe(INACTIVE)
    // Nobody sees the tokens of the other environment, not even their own organization.
    expect(await text(minted, { ...client, organizationId: target.organizationId })).toBe(INACTIVE)
  })
})

describe('§4 of questions that wait', () => {
  const credential = {
    client: { id: 'cli_a' },
    key: { id: 'key_a' },
    owner: { id: 'org_a', platform: false },
  }
  const noKey = { sign: async () => undefined, reload: async () => true }
  const appWith = (inspectToken: InspectToken, signer: Pick<Signer, 'reload' | 'sign'> = noKey) => {
    const [issuer] = issuersOf(ISSUER)
    if (!issuer) throw new Error('there is no issuer')
    const app = new Hono<RequestEnv>()
    app.onError((error, c) => renderOAuthError(c, error))
    app.use((c, next) => {
      c.set('request', {
        ...{ incoming: c.env.incoming, outgoing: c.env.outgoing, issuer: ISSUER, requestId: 'r' },
        ...{ clientAddress: '192.0.2.1', log: pino({ level: 'silent' }) },
      })
      return next()
    })
    const answer = answerIntrospection(
      {
        authenticateClient: async ({ presented }) =>
          ({
            ok: true,
            credential: { ...credential, client: { id: (presented as { clientId: string }).clientId } },
          }) as never,
        inspectToken,
        onRefused: () => {},
        signer,
        now: Date.now,
      },
      issuer,
    )
    app.post('/', answer)
    return (clientId: string, headers: Record<string, string> = {}) =>
      app.request(
        '/',
        { method: 'POST', headers },
        {
          incoming: Object.assign(
            Readable.from([`token=x&client_id=${clientId}&client_secret=y`].map((text) => Buffer.from(text))),
            {
              headers: {},
              rawHeaders: ['Content-Type', 'application/x-www-form-urlencoded'],
              complete: true,
            },
          ),
          outgoing: { setHeader: () => {} },
        },
      )
  }

  test('a client has a hundred at most, and the next is told to come again; another client does not wait', async () => {
    const answers = Promise.withResolvers<undefined>()
    const asked = appWith((token) => (token === 'x' ? answers.promise : Promise.resolve(undefined)))
    const waiting = Array.from({ length: 100 }, () => asked('cli_a'))
    await expect.poll(async () => (await asked('cli_a')).status).toBe(429)
    const refused = await asked('cli_a')
    expect(await refused.json()).toMatchObject({ error: 'temporarily_unavailable' })
    expect(refused.headers.get('retry-after')).toBe('1')
    const other = asked('cli_b')
    answers.resolve(undefined)
    for (const answer of [...(await Promise.all(waiting)), await other]) expect(answer.status).toBe(200)
    expect((await asked('cli_a')).status).toBe(200)
  })

  test('whether a token is good cannot be told: 503 with Retry-After, never active', async () => {
    const asked = appWith(() =>
      Promise.reject(new ApiError('unavailable', 'x', { headers: { 'Retry-After': '1' } })),
    )
    const answer = await asked('cli_a')
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toBe('1')
    expect(await answer.json()).toMatchObject({ error: 'temporarily_unavailable' })
  })

  test('RFC 9701 §5 without a key to sign with: 503, and no answer in another form', async () => {
    const asked = appWith(async () => undefined)
    const answer = await asked('cli_a', { Accept: 'application/token-introspection+jwt' })
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toBe('1')
  })

  test('F12 RFC 9701 §5 where it cannot be told whether the key has been revoked: 503', async () => {
    const signed = { token: 'a.b.c', kid: 'k', signingKeyVersion: 1 }
    const signer = { sign: async () => signed, reload: async () => false }
    const asked = appWith(async () => undefined, signer)
    const answer = await asked('cli_a', { Accept: 'application/token-introspection+jwt' })
    expect(answer.status).toBe(503)
  })
})

test('§2.2 what the platform’s API revokes is inactive in the next answer', async () => {
  const operator = await apiOfOperator(service)
  const doomed = await tokenFrom(url, client)
  expect((await introspect(url, client, doomed)).active).toBe(true)
  expect((await operator.post(`/v2/tokens/${claimsOf(doomed).jti}/revoke`)).status).toBe(200)
  expect(await text(doomed)).toBe(INACTIVE)
})

test('A55 neither tokens nor secrets are logged or kept in the trail', async () => {
  const logs = service.logs.join('\n')
  for (const secret of [token, token.split('.')[2] ?? '', client.key, basic(client)]) {
    expect(logs).not.toContain(secret)
    expect(await sql`select id from audit_events where details::text like ${`%${secret}%`}`).toEqual([])
  }
})
