import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { EXCEPTIONS } from '../../abuse/expression-exceptions.ts'
import { findExpressions, lineOf, verdictOn } from '../../abuse/expressions.ts'

test('A60 every expression of the source is safe by recheck, and the list of them is right', {
  timeout: 180_000,
}, async () => {
  const { literals } = await findExpressions()
  const excused = new Set(EXCEPTIONS.map(({ line }) => line))
  const asked = new Map(literals.map((each) => [lineOf(each), each]))
  const verdicts = [...asked]
    .filter(([line]) => !excused.has(line))
    .map(([line, each]) => ({ line, ...verdictOn(each, 20_000) }))
  expect(verdicts.filter(({ status }) => status !== 'safe')).toEqual([])
  const list = await readFile(new URL('../../abuse/safe-expressions.txt', import.meta.url), 'utf8')
  const expected = verdicts.map(({ line }) => line).sort()
  expect(list.split('\n').filter(Boolean)).toEqual(expected)
})
