/** What `npm run bench` concludes from its rounds; that it measures, it shows when it runs. */
import { describe, expect, test } from 'vitest'
import { STAGES, stageOf } from '../../scripts/bench/stages.ts'
import { findFalls, judgeable, median, type Round, ratiosOf } from '../../scripts/bench/verdict.ts'

const round = (productRps: number, productCpu: number, otherCores = 0): Round => ({
  product: { rps: productRps, serverCpu: productCpu, otherCores },
  floor: { rps: 1000, serverCpu: 50, otherCores: 0 },
})

describe('the ratio to the floor', () => {
  test('is the median of the rounds', () => {
    expect(ratiosOf([round(800, 100), round(100, 100), round(900, 50)])).toEqual({
      ratio: 0.8,
      cpuRatio: 0.5,
    })
    expect(median([4, 1, 3, 2])).toBe(2.5)
  })

  test('is of requests alone where the system does not tell the processor time', () => {
    expect(ratiosOf([round(800, Number.NaN)])).toEqual({ ratio: 0.8, cpuRatio: undefined })
  })

  test('may fall by 15 %, and not by more', () => {
    const recorded = { ratio: 0.8, cpuRatio: 0.6 }
    expect(findFalls({ ratio: 0.681, cpuRatio: 0.511 }, recorded, true)).toEqual([])
    expect(findFalls({ ratio: 0.679, cpuRatio: 0.6 }, recorded, true)).toHaveLength(1)
    expect(findFalls({ ratio: 0.8, cpuRatio: 0.5 }, recorded, true)).toHaveLength(1)
    expect(findFalls({ ratio: 0.9, cpuRatio: undefined }, recorded, true)).toEqual([])
  })

  test('is of the rounds that nothing disturbed, where those are the most', () => {
    const [quiet, disturbed] = [round(800, 100), round(100, 100, 0.9)]
    expect(judgeable([quiet, disturbed, quiet])).toEqual({ judged: [quiet, quiet], isQuiet: true })
    expect(judgeable([quiet, disturbed, disturbed])).toMatchObject({ isQuiet: false, judged: { length: 3 } })
    const unknown = round(800, 100, Number.NaN)
    expect(judgeable([unknown, unknown]).isQuiet).toBe(true)
  })

  test('of requests is not judged on a machine that was not quiet, unless there is no other', () => {
    const recorded = { ratio: 0.8, cpuRatio: 0.6 }
    expect(findFalls({ ratio: 0.3, cpuRatio: 0.6 }, recorded, false)).toEqual([])
    expect(findFalls({ ratio: 0.3, cpuRatio: 0.4 }, recorded, false)).toHaveLength(1)
    expect(findFalls({ ratio: 0.3, cpuRatio: undefined }, recorded, false)).toHaveLength(1)
  })
})

describe('the stage of a stack', () => {
  const frame = (functionName: string, url: string) => ({ functionName, url, lineNumber: 0 })
  const server = frame('parserOnIncoming', 'node:_http_server')

  test('is what its innermost telling frame says', () => {
    const sign = [frame('run', ''), frame('signOneShot', 'node:internal/crypto/sig')]
    expect(stageOf([...sign, frame('sign', 'file:///x/src/signing/signer.ts'), server])).toBe('signing')
    const stringify = frame('stringify', '')
    expect(stageOf([stringify, frame('decide', 'file:///x/src/ledger/admission.ts')])).toBe(
      'ledger and admission',
    )
    expect(stageOf([frame('writev', ''), server])).toBe('node:http')
    expect(
      stageOf([frame('(garbage collector)', ''), frame('decide', 'file:///x/src/exchange/exchange.ts')]),
    ).toBe('collecting garbage')
  })

  test('is Node’s own where no other frame tells', () => {
    expect(stageOf([frame('onStreamRead', 'node:internal/stream_base_commons')])).toBe('sockets')
    expect(stageOf([frame('(root)', '')])).toBe('event loop, timers, promises')
    expect(STAGES).toContain(stageOf([frame('anything', 'file:///elsewhere.js')]))
  })
})
