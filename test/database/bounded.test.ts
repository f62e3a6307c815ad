import { expect, test } from 'vitest'
import { createBounded } from '../../src/database/bounded.ts'
import { ApiError } from '../../src/errors.ts'

const options = { maxPending: 2, deadlineMilliseconds: 50, detail: 'Nothing can be read.' }
const unavailable = (cause: unknown) =>
  expect.objectContaining({
    ...{ code: 'unavailable', detail: options.detail, headers: { 'Retry-After': '1' } },
    ...(cause ? { cause } : {}),
  })

test('what succeeds is answered, and makes room', async () => {
  const bounded = createBounded(options)
  for (let i = 0; i < 5; i++) expect(await bounded(async () => i)).toBe(i)
})

test('what fails is our fault, with its cause for the log, and makes room', async () => {
  const bounded = createBounded(options)
  const broken = new Error('broken')
  for (let i = 0; i < 5; i++)
    await expect(bounded(() => Promise.reject(broken))).rejects.toEqual(unavailable(broken))
})

test('what does not answer is given up, and counts until it does', async () => {
  const bounded = createBounded(options)
  const silent = Promise.withResolvers<string>()
  for (let i = 0; i < 2; i++) await expect(bounded(() => silent.promise)).rejects.toBeInstanceOf(ApiError)
  let isAsked = false
  const ask = async () => {
    isAsked = true
    return 'answer'
  }
  await expect(bounded(ask)).rejects.toEqual(unavailable(undefined))
  expect(isAsked).toBe(false)
  silent.resolve('late')
  await silent.promise
  await expect.poll(() => bounded(ask).catch(() => undefined), { interval: 1 }).toBe('answer')
})
