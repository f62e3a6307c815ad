/** The verifier in docs/revocation-feed.md, run as it stands there. */
import { mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { newJti } from '../../src/ids.ts'
import { apiOfOperator } from '../support/management.ts'
import { mint, tokenOf } from '../support/mint.ts'
import { seedClient, seedDelegation, seedOrganization } from '../support/seed.ts'
import { SANDBOX_ISSUER, setUpService } from '../support/service.ts'

type IsRevoked = (token: object, kid: string) => boolean

const { database, service } = await setUpService()
const operator = await apiOfOperator(service)
const root = join(import.meta.dirname, '../..')
const folder = await realpath(await mkdtemp(join(tmpdir(), 'signet-guide-')))
afterAll(() => rm(folder, { recursive: true, force: true }))

test('refuses what is revoked, of every kind, and nothing else', async () => {
  const guide = await readFile(join(root, 'docs/revocation-feed.md'), 'utf8')
  const [, code = ''] = /```js\n(.*?)```/s.exec(guide) ?? []
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
  await writeFile(join(folder, 'guide.mjs'), code)
  const { followRevocations } = await import(join(folder, 'guide.mjs'))
  // The issuer's name leads to the service.
  const realFetch = globalThis.fetch
  vi.spyOn(globalThis, 'fetch').mockImplementation((url, init) =>
    realFetch(String(url).replace(SANDBOX_ISSUER, `${service.url}/sandbox`), init),
  )

  const organizationId = await seedOrganization(database.sql)
  const partner = await seedClient(database.sql, { kind: 'partner' })
  const delegationId = await seedDelegation(database.sql, {
    organizationId,
    partnerId: partner.organizationId,
  })
  const [byKey, byClient, ofOrganization, single, good] = await Promise.all(
    Array.from({ length: 5 }, () => seedClient(database.sql)),
  )
  if (!byKey || !byClient || !ofOrganization || !single || !good) throw new Error('a client is missing')
  const read = async (client: typeof partner, forWhom = client.organizationId) => {
    const { token } = await tokenOf(await mint(service.url, { ...client, organizationId: forWhom }))
    const [header, claims] = token
      .split('.')
      .slice(0, 2)
      .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()))
    return { claims, kid: header.kid }
  }
  const tokens = await Promise.all([
    read(byKey),
    read(byClient),
    read(ofOrganization),
    read(single),
    read(partner, organizationId),
  ])
  const fine = await read(good)

  const start = async (): Promise<IsRevoked> => {
    const isRevoked: IsRevoked = followRevocations(SANDBOX_ISSUER, 60)
    await vi.waitFor(() => isRevoked(fine.claims, fine.kid), 5000)
    return isRevoked
  }
  const before = await start()
  for (const { claims, kid } of [...tokens, fine]) expect(before(claims, kid)).toBe(false)

  await operator.post(`/v2/keys/${byKey.keyId}/revoke`, { revoke_tokens: true })
  await operator.post(`/v2/clients/${byClient.clientId}/suspend`)
  await operator.patch(`/v2/organizations/${ofOrganization.organizationId}`, { status: 'suspended' })
  await operator.post(`/v2/tokens/${tokens[3].claims.jti}/revoke`)
  await operator.post(`/v2/delegations/${delegationId}/pause`)
  const after = await start()
  expect(tokens.map(({ claims, kid }) => after(claims, kid))).toEqual([true, true, true, true, true])
  expect(after(fine.claims, fine.kid)).toBe(false)
  expect(after({ ...fine.claims, jti: newJti(), partner_id: 'constructor' }, fine.kid)).toBe(false)

  await operator.post(`/v2/signing-keys/${fine.kid}/revoke`)
  const last: IsRevoked = followRevocations(SANDBOX_ISSUER, 60)
  await vi.waitFor(() => expect(last(fine.claims, fine.kid)).toBe(true), 5000)
})
