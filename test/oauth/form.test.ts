import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { formDecode, parseForm } from '../../src/oauth/form.ts'

const names = fc.uniqueArray(fc.string({ unit: 'binary' }), { maxLength: 8 })
const values = fc.string({ unit: 'binary', minLength: 1 })

describe('a form', () => {
  test('says what URLSearchParams wrote, whatever it is', () => {
    fc.assert(
      fc.property(names, fc.array(values, { minLength: 8, maxLength: 8 }), (keys, texts) => {
        const pairs = keys.map((key, i) => [key, texts[i] ?? ''])
        const form = parseForm(new URLSearchParams(pairs as [string, string][]).toString())
        for (const [key = '', value] of pairs) expect(form.get(key)).toBe(value)
        expect(form.get('absent')).toBe(keys.includes('absent') ? expect.anything() : undefined)
      }),
    )
  })

  test('whatever the text is, it is read or refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        try {
          parseForm(text).get('__proto__')
        } catch (error) {
          expect(error).toBeInstanceOf(ApiError)
        }
      }),
    )
  })

  test('a name that means something to JavaScript is a name like others', () => {
    const form = parseForm('__proto__=a&constructor=b')
    expect([form.get('__proto__'), form.get('constructor'), form.get('toString')]).toEqual([
      'a',
      'b',
      undefined,
    ])
  })

  test('of resource and audience, every value that is not empty', () => {
    const form = parseForm('resource=a&resource=&audience=b&resource=c%3Dd=e')
    expect(form.getAll('resource')).toEqual(['a', 'c=d=e'])
    expect(form.getAll('audience')).toEqual(['b'])
  })

  test.each([
    ['a+b%20c', 'a b c'],
    ['%2B', '+'],
    ['%c3%a9', 'é'],
    ['é', 'é'],
    ['%zz', undefined],
    ['%e9', undefined],
    ['%', undefined],
  ])('%s is %s', (text, expected) => {
    expect(formDecode(text)).toBe(expected)
  })
})
