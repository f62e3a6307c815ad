import { expect, test } from 'vitest'
import { TooLateError } from '../../src/clock.ts'
import { outageOf } from '../../src/http/request-context.ts'

const withCode = (error: Error, code: string) => Object.assign(error, { code })

test.each<[string, unknown, object]>([
  [
    'a lost connection',
    withCode(new Error('closed'), 'CONNECTION_CLOSED'),
    { reason: 'Error: closed', cause_code: 'CONNECTION_CLOSED' },
  ],
  [
    'what took too long',
    new TooLateError('no answer in time'),
    { reason: 'TooLateError: no answer in time' },
  ],
  [
    'several addresses, none of which answers',
    withCode(new AggregateError([new Error('refused ::1'), new Error('refused 127.0.0.1')]), 'ECONNREFUSED'),
    { reason: 'AggregateError: refused ::1; refused 127.0.0.1', cause_code: 'ECONNREFUSED' },
  ],
  [
    'a failed statement: what the server said, without its parameters',
    new Error('Failed query: select 1\nparams: secret', {
      cause: withCode(new Error('disk full\nsecret'), '53100'),
    }),
    { reason: 'Error: disk full', cause_code: '53100' },
  ],
])('of %s, a line', (_, cause, expected) => {
  expect(outageOf(cause)).toEqual(expected)
})

test('what may be a fault of ours, whole', () => {
  const fault = new TypeError('cannot read')
  expect(outageOf(fault)).toEqual({ err: fault })
})
