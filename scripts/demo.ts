/**
 * The whole loop in one go (`npm run demo`): start Signet, exchange a key for a token, verify it offline with the
 * server stopped, revoke the key, and see the next exchange refused. Exits with 0 only if every step did what it should.
 */
import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict'
import { createVerifier } from '#sdk'
import { type ThrowawayServer, withThrowawayServer } from './throwaway-server.ts'

let steps = 0

await withThrowawayServer(async (server) => {
  await demonstrate(server)
  console.log('\nEvery step did what it should.')
})

async function demonstrate({ url, start, stop, bootstrapped }: ThrowawayServer): Promise<void> {
  step('Start the server, with its own PostgreSQL, on an empty folder')
  const began = performance.now()
  await start()
  say(`ready at ${url} after ${((performance.now() - began) / 1000).toFixed(1)} s`)

  step('An organization, its client and the client’s key, as the first start made them')
  const { operator, demo } = await bootstrapped()
  ok(demo, 'the first start made no demo organization')
  say(`organization  ${demo.organization_id}`)
  say(`client        ${demo.client_id}, sandbox, may grant ${demo.scopes.length} scopes`)
  say(`key           ${demo.key}`)

  step('Exchange the key for a token')
  const wanted = { organization_id: demo.organization_id, scopes: ['transactions:read', 'person:write'] }
  say('POST /v2/auth/token')
  say(`Authorization: Bearer ${demo.key.slice(0, 15)}…`)
  const request = { expiry_seconds: 3600, scopes: wanted }
  show(request)
  const exchange = () => exchangeKey(url, demo.key, request)
  const exchanged = await exchange()
  strictEqual(exchanged.status, 200, `the exchange was answered with ${exchanged.status}`)
  const answer = (await exchanged.json()) as { token: string; scopes: object }
  deepStrictEqual(answer.scopes, wanted)
  say('→ 200')
  show({ ...answer, token: `${answer.token.slice(0, 12)}…` })
  say('The token’s claims:')
  const [header, payload = '', signature] = answer.token.split('.')
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString())
  show(claims)

  step('Stop the server, and verify the token offline')
  // What an API in front of its data does. It fetches the public keys ahead, once; see sdk/README.md.
  const verifier = createVerifier({ issuer: `${url}/sandbox`, audience: `${url}/api` })
  await verifier.preload()
  await stop()
  await rejects(fetch(`${url}/livez`), 'the stopped server still answers')
  say('the server is stopped, nothing listens any more')
  const requirements = { scopes: ['transactions:read'], organizationId: demo.organization_id }
  const verified = await verifier.verify(answer.token, requirements)
  strictEqual(verified.jti, claims.jti)
  say(`verified: ${verified.jti} may ${verified.scope} for ${verified.organization_id}`)
  const more = JSON.stringify({ ...claims, scope: `${claims.scope} accounts:write` })
  const forged = `${header}.${Buffer.from(more).toString('base64url')}.${signature}`
  await rejects(verifier.verify(forged), { code: 'signature_invalid' })
  say('the same token with accounts:write written into it: refused, signature_invalid')

  step('Start the server again: the key still works')
  await start()
  const again = await exchange()
  strictEqual(again.status, 200, `the exchange was answered with ${again.status}`)
  say('→ 200')

  step('Revoke the key, as the operator')
  const management = await exchangeKey(url, operator.key, {
    scopes: { organization_id: operator.organization_id, scopes: ['signet:keys:write'] },
  })
  const { token } = (await management.json()) as { token: string }
  say(`POST /v2/keys/${demo.key_id}/revoke`)
  const revoked = await fetch(`${url}/v2/keys/${demo.key_id}/revoke`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ reason: 'superseded' }),
  })
  strictEqual(revoked.status, 200, `the revocation was answered with ${revoked.status}`)
  say('→ 200')

  step('The next exchange is refused')
  const refused = await exchange()
  strictEqual(refused.status, 401, `the exchange with a revoked key was answered with ${refused.status}`)
  const problem = (await refused.json()) as { error: { code: string } }
  strictEqual(problem.error.code, 'invalid_key')
  say(`→ 401 ${refused.headers.get('content-type')}`)
  show(problem)
  await stop()
}

function exchangeKey(url: string, key: string, body: object): Promise<Response> {
  return fetch(`${url}/v2/auth/token`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  })
}

function step(title: string): void {
  steps += 1
  console.log(`\n${steps}. ${title}`)
}

function say(text: string): void {
  console.log(text.replace(/^/gm, '   '))
}

function show(value: object): void {
  say(JSON.stringify(value, undefined, 2))
}
