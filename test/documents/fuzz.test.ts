/** A short run of `npm run fuzz`; the long one takes minutes. */
import { expect, test } from 'vitest'
import { fuzz } from '../support/fuzz/fuzz.ts'
import { setUpService } from '../support/service.ts'

const { service } = await setUpService({ logLevel: 'warn' })

test('requests made from the document are answered as it says', async () => {
  if (!service.operator) throw new Error('this service did not start first on its database')
  const { sent, counts, violations } = await fuzz({
    url: service.url,
    operator: service.operator,
    requests: 400,
    seed: 1,
    concurrency: 8,
    deadlineMilliseconds: 20_000,
  })
  expect(violations).toEqual([])
  expect(sent).toBe(400)
  expect(counts.size).toBeGreaterThan(30)
  // Forms and clients' credentials are made well enough to get somewhere.
  const succeeded = [...counts].filter(([, ofOperation]) => ofOperation.has(200)).map(([name]) => name)
  for (const path of ['token', 'introspect', 'revoke'])
    expect(succeeded).toEqual(
      expect.arrayContaining([`POST /oauth2/${path}`, `POST /sandbox/oauth2/${path}`]),
    )
})
