/** A client that ends its own tokens goes on minting: nothing that it holds has changed. */
import { expect, test } from 'vitest'
import { seedClient } from '../support/seed.ts'
import { setUpService } from '../support/service.ts'

const { database, service } = await setUpService({ logLevel: 'warn' })

test('revocations by a client keep none of its exchanges from being answered', async () => {
  const { clientId, key } = await seedClient(database.sql)
  const post = (path: string, body: Record<string, string>) =>
    fetch(`${service.url}/sandbox/oauth2/${path}`, {
      method: 'POST',
      headers: { Authorization: `Basic ${btoa(`${clientId}:${key}`)}` },
      body: new URLSearchParams(body),
    })
  const statuses: number[] = []
  async function mintAndRevoke(): Promise<void> {
    for (let i = 0; i < 25; i++) {
      const minted = await post('token', { grant_type: 'client_credentials' })
      statuses.push(minted.status)
      const { access_token: token } = (await minted.json()) as { access_token?: string }
      if (token !== undefined) statuses.push((await post('revoke', { token })).status)
    }
  }
  await Promise.all(Array.from({ length: 4 }, mintAndRevoke))
  expect(statuses.filter((status) => status !== 200)).toEqual([])
  expect(statuses).toHaveLength(200)
})
