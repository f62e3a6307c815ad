/** F9 on real processes: kill -9 at any moment of a rotation that somebody has asked for. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, expect, test } from 'vitest'
import { createVerifier } from '#sdk'
import { activeCounts, age, keysOf } from '../../signing/rotators.ts'
import { apiWith, tokenFor } from '../../support/management.ts'
import { mint, tokenOf } from '../../support/mint.ts'
import {
  createProcesses,
  readBootstrapFile,
  type ServiceProcess,
  startUnlimited,
  withDatabase,
} from '../../support/process.ts'

const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

const KILLS = 8

test(`F9 kill -9 in the midst of a rotation, ${KILLS} times: one key is active, and all tokens verify`, async () => {
  const { environment, dataDir, service, demo } = await startUnlimited(processes)
  const { operator } = await readBootstrapFile(String(environment.BOOTSTRAP_FILE))
  const mintOn = async ({ url }: ServiceProcess) => (await tokenOf(await mint(url, demo))).token
  const verifierOn = ({ url, issuer }: ServiceProcess) =>
    createVerifier({
      issuer: `${issuer}/sandbox`,
      audience: `${issuer}/api`,
      jwksUri: `${url}/sandbox/.well-known/jwks.json`,
    })
  let one = service
  let rotations = 0
  /** How long one takes here, asked of a process that has just started. */
  let rotationMs = 0
  // The first is not killed.
  for (let kill = 0; kill <= KILLS; kill++) {
    // The last next key has become the active one.
    const before = await withDatabase(dataDir, async (sql) => {
      await age(sql, 3600, 'sandbox')
      return (await keysOf(sql, 'sandbox')).length
    })
    const api = apiWith(
      one.url,
      await tokenFor(one.url, { organizationId: operator.organization_id, key: operator.key }, [
        'signet:signing_keys:write',
      ]),
    )
    const earlier = await mintOn(one)
    const asked = api.post('/v2/signing-keys/rotate', { environment: 'sandbox' }).then(
      ({ status }) => status,
      () => 0,
    )
    const began = performance.now()
    if (kill === 0) {
      expect(await asked).toBe(201)
      rotationMs = performance.now() - began
    } else await sleep(Math.random() * 1.3 * rotationMs)
    await one.kill()
    const status = await asked
    const { after, counts } = await withDatabase(dataDir, async (sql) => ({
      after: (await keysOf(sql, 'sandbox')).length,
      counts: await Promise.all(['sandbox', 'production'].map((name) => activeCounts(sql, name))),
    }))
    expect([kill, counts]).toEqual([kill, [[1], [1]]])
    expect([0, 1]).toContain(after - before)
    if (status === 201) expect(after - before).toBe(1)
    if (kill > 0) rotations += after - before
    one = await processes.start({ ...environment, PORT: String(one.port) })
    const verifier = verifierOn(one)
    for (const token of [earlier, await mintOn(one)])
      expect(await verifier.verify(token)).toMatchObject({ sub: demo.clientId })
    verifier.close()
  }
  console.log(`F9: ${KILLS} × kill -9 during a rotation; ${rotations} of them had taken effect`)
}, 180_000)
