import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { parseStrictJson } from '../../src/http/json-body.ts'

const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0

describe('parseStrictJson', () => {
  test('reads what JSON.parse reads', () => {
    fc.assert(
      fc.property(
        fc.jsonValue({ maxDepth: 10, stringUnit: 'binary' }),
        fc.constantFrom(0, 2),
        (value, indent) => {
          fc.pre(depthOf(value) <= 16)
          const text = JSON.stringify(value, undefined, indent)
          expect(parseStrictJson(text)).toEqual(JSON.parse(text))
        },
      ),
    )
  })

  test('refuses what JSON.parse refuses, and throws nothing else', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'{}[]",:\\0ea '), maxLength: 30 }), (text) => {
        const outcome = (parse: (text: string) => unknown) => {
          try {
            return { value: parse(text) }
          } catch (error) {
            return { error }
          }
        }
        const ours = outcome(parseStrictJson)
        const theirs = outcome(JSON.parse)
        if ('error' in ours) expect(ours.error).toBeInstanceOf(ApiError)
        if ('error' in theirs) expect(ours).toHaveProperty('error')
      }),
    )
  })

  test('A8 refuses any object with a name twice, wherever it is and however it is written', () => {
    const escaped = (name: string) =>
      `"${[...name].map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}"`
    const names = fc.constantFrom('a', 'scope', '__proto__', 'constructor', '0', ':', '"', '\\', '{', '')
    const member = fc.jsonValue({ maxDepth: 2 }).map((value) => JSON.stringify(value))
    fc.assert(
      fc.property(names, member, member, fc.boolean(), fc.nat(5), (name, first, second, spelt, depth) => {
        const again = spelt && name.length > 0 ? escaped(name) : JSON.stringify(name)
        const object = `{${JSON.stringify(name)}:${first},"other":":",${again}:${second}}`
        const text = `${'[{"x":'.repeat(depth)}${object}${'}]'.repeat(depth)}`
        expect(() => JSON.parse(text)).not.toThrow()
        expect(() => parseStrictJson(text)).toThrow(ApiError)
      }),
    )
  })

  test('A10 takes 16 levels and no more', () => {
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
    expect(parseStrictJson(nested(16))).toBeDefined()
    expect(() => parseStrictJson(nested(17))).toThrow('nested')
    expect(parseStrictJson(`["${'['.repeat(100)}"]`)).toEqual(['['.repeat(100)])
  })

  test('A9 an own member __proto__ is no prototype', () => {
    const value = parseStrictJson('{"__proto__":{"scope":"admin"}}')
    expect(Object.keys(value as object)).toEqual(['__proto__'])
    expect(Reflect.get({}, 'scope')).toBeUndefined()
  })

  test('never repeats what it was given', () => {
    for (const text of [
      '{"secret":1,"secret":2}',
      'secret',
      '{"a":secret}',
      `${'['.repeat(20)}"secret"${']'.repeat(20)}`,
    ])
      expect(() => parseStrictJson(text)).toThrow(
        expect.objectContaining({ message: expect.not.stringContaining('secret') }),
      )
  })
})
