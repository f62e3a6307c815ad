/**
 * A60. Whether an expression is safe takes recheck up to seconds to tell: those in safe-expressions.txt it has told already,
 * and `npm run test:faults` asks again of each. A new one is asked about here, and then belongs into that list.
 */
import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { idPattern } from '../../src/ids.ts'
import { createKeyFormat } from '../../src/keys/key-format.ts'
import { EXCEPTIONS } from './expression-exceptions.ts'
import { type Expression, findExpressions, lineOf, verdictOn } from './expressions.ts'

const known = new Set(
  (await readFile(new URL('safe-expressions.txt', import.meta.url), 'utf8')).split('\n').filter(Boolean),
)
const { literals, constructed } = await findExpressions()

test('A60 the search finds what there is', () => {
  expect(literals.length).toBeGreaterThan(40)
  expect(new Set(literals.map(({ file }) => file.split('/')[0]))).toEqual(new Set(['src', 'sdk']))
})

test('A60 every expression of the source is safe, or has a reason', { timeout: 60_000 }, () => {
  const isExcused = ({ file, ...expression }: Expression) =>
    EXCEPTIONS.some((each) => each.file === file && each.line === lineOf(expression))
  const unsafe = literals
    .filter((each) => !known.has(lineOf(each)) && !isExcused(each))
    .map((each) => ({ ...each, ...verdictOn(each, 10_000) }))
    .filter(({ status }) => status !== 'safe')
  expect(unsafe).toEqual([])
})

test('A60 so is every one that is made of parts', () => {
  /** What comes of the code, by the file that it stands in. */
  const MADE: Readonly<Record<string, () => readonly RegExp[]>> = {
    'src/ids.ts': () => [idPattern('organization')],
    'src/keys/key-format.ts': () => whatIsMadeBy(() => createKeyFormat('sgt')),
    // Its patterns are those of our own schemas: the literals above.
    'src/http/example.ts': () => [],
  }
  expect(Object.keys(MADE).sort()).toEqual([...new Set(constructed.map(({ file }) => file))].sort())
  for (const { file } of constructed)
    for (const { source: pattern, flags } of MADE[file]?.() ?? [])
      expect({ file, pattern, ...verdictOn({ pattern, flags }, 5000) }).toMatchObject({ status: 'safe' })
})

test('A60 there is a reason for each exception, and none is left over', () => {
  for (const { file, line, reason } of EXCEPTIONS) {
    expect(reason.length, line).toBeGreaterThan(20)
    expect(
      literals.some((each) => each.file === file && lineOf(each) === line),
      line,
    ).toBe(true)
  }
})

function whatIsMadeBy(work: () => void): RegExp[] {
  const made: RegExp[] = []
  const { RegExp: original } = globalThis
  globalThis.RegExp = new Proxy(original, {
    construct(target, [pattern, flags]) {
      const expression = new target(pattern, flags)
      made.push(expression)
      return expression
    },
  })
  try {
    work()
  } finally {
    globalThis.RegExp = original
  }
  return made
}
