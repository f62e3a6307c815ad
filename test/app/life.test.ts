/** The script that drives the whole life, against the service of this run. */
import { expect, test } from 'vitest'
import { liveWhole } from '../../scripts/life.ts'
import { setUpService } from '../support/service.ts'

const plain = await setUpService()
const strict = await setUpService({ config: { fourEyes: true } })

test.each([false, true])(
  'with four eyes %j: operator, tenant, client, approval, key, exchange, renewal, overlap, revocation; partner, delegation, pause',
  async (fourEyes) => {
    const { service } = fourEyes ? strict : plain
    const lines: string[] = []
    const { operator } = service
    if (!operator) throw new Error('no operator')
    await liveWhole({
      url: service.url,
      operatorKey: operator.key,
      ...(service.approver ? { approverKey: service.approver.key } : {}),
      platformId: operator.organization_id,
      say: (line) => lines.push(line),
    })
    expect(lines.at(-1)).toMatch(/audit-events/)
  },
)
