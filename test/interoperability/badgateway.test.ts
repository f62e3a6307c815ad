/** @badgateway/oauth2-client, which shares no code with oauth4webapi, at both issuers. */
import { OAuth2Client } from '@badgateway/oauth2-client'
import { describe, expect, test } from 'vitest'
import { seedClient } from '../support/seed.ts'
import { setUpAtOwnUrl } from './own-url.ts'

const { database, issuers } = await setUpAtOwnUrl()

/** It takes the path of discovery for the same at every server: the sandbox issuer's is named. */
const DISCOVERY = {
  production: '/.well-known/oauth-authorization-server',
  sandbox: '/.well-known/oauth-authorization-server/sandbox',
} as const

describe.each(['production', 'sandbox'] as const)('the %s issuer', (environment) => {
  async function clientWith(
    authenticationMethod?: 'client_secret_basic' | 'client_secret_post' | 'client_secret_basic_interop',
  ) {
    const seeded = await seedClient(database.sql, { environment })
    const client = new OAuth2Client({
      server: issuers[environment],
      discoveryEndpoint: DISCOVERY[environment],
      clientId: seeded.clientId,
      clientSecret: seeded.key,
      ...(authenticationMethod ? { authenticationMethod } : {}),
    })
    return { seeded, client }
  }

  test('discovery', async () => {
    const { client } = await clientWith()
    const issuer = issuers[environment]
    expect(await client.getEndpoint('tokenEndpoint')).toBe(`${issuer}/oauth2/token`)
    expect(await client.getEndpoint('introspectionEndpoint')).toBe(`${issuer}/oauth2/introspect`)
    expect(await client.getEndpoint('revocationEndpoint')).toBe(`${issuer}/oauth2/revoke`)
  })

  // It encodes every `_` of the id and the key (RFC 6749 appendix B), or, for interoperability, nothing but colons.
  test.each(['client_secret_basic', 'client_secret_basic_interop', 'client_secret_post', undefined] as const)(
    'client_credentials, introspection and revocation by %s',
    async (method) => {
      const { client, seeded } = await clientWith(method)
      const token = await client.clientCredentials({ scope: ['transactions:read'] })
      expect(token.scope).toEqual(['transactions:read'])
      expect(token.refreshToken).toBeNull()
      expect(token.expiresAt).toBeGreaterThan(Date.now() + 3_500_000)

      expect(await client.introspect(token)).toMatchObject({
        active: true,
        client_id: seeded.clientId,
        scope: 'transactions:read',
      })
      await client.revoke(token)
      expect(await client.introspect(token)).toEqual({ active: false })
    },
  )

  test('vendor parameters, and the audience as a resource', async () => {
    const { client, seeded } = await clientWith()
    const token = await client.clientCredentials({
      resource: 'https://api.test',
      extraParams: { signet_expires_in_seconds: '600', organization_id: seeded.organizationId },
    })
    expect(token.expiresAt).toBeLessThan(Date.now() + 601_000)
  })

  test('a refusal is an error that it understands', async () => {
    const { client, seeded } = await clientWith()
    await expect(client.clientCredentials({ scope: ['accounts:read'] })).rejects.toMatchObject({
      oauth2Code: 'invalid_scope',
      httpCode: 400,
    })
    const wrong = new OAuth2Client({ ...client.settings, clientSecret: `${seeded.key}x` })
    await expect(wrong.clientCredentials()).rejects.toMatchObject({
      oauth2Code: 'invalid_client',
      httpCode: 401,
    })
  })
})
