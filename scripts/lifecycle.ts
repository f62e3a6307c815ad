/**
 * `npm run lifecycle`: the whole life of a tenant and of a partner, over HTTP alone (life.ts), on a server of its own.
 * With `--url`, `--key` and `--organization` on one that runs: the operator's key, and the platform
 * organization; with FOUR_EYES also `--approver`, the approver's key.
 */
import { parseArgs } from 'node:util'
import { liveWhole } from './life.ts'
import { withThrowawayServer } from './throwaway-server.ts'

const { url, key, organization, approver } = parseArgs({
  options: {
    url: { type: 'string' },
    key: { type: 'string' },
    organization: { type: 'string' },
    approver: { type: 'string' },
  },
}).values
const say = (line: string) => console.log(/^[A-Z]+ \//.test(line) ? `  ${line}` : `\n${line}`)

if (url && key && organization) {
  await liveWhole({
    url,
    operatorKey: key,
    ...(approver ? { approverKey: approver } : {}),
    platformId: organization,
    say,
  })
  console.log('\nEvery step did what it should.')
} else if (url || key || organization) {
  console.error('Give --url, --key and --organization together, or none of them.')
  process.exit(2)
} else
  await withThrowawayServer(async (server) => {
    await server.start()
    const { operator } = await server.bootstrapped()
    await liveWhole({
      url: server.url,
      operatorKey: operator.key,
      platformId: operator.organization_id,
      say,
    })
    console.log('\nEvery step did what it should.')
  })
