import { createCipheriv } from 'node:crypto'
import { base64url, CompactEncrypt } from 'jose'
import { describe, expect, test } from 'vitest'
import { createSealing, SealError } from '../../src/signing/sealing.ts'

const kek = (byte: number) => new Uint8Array(32).fill(byte)
const secret = new TextEncoder().encode('a secret')
const context = { purpose: 'signing-key', id: 'row-1' }

describe('sealing', () => {
  test('what was sealed opens again, and nothing of it can be read in between', async () => {
    const sealing = createSealing([kek(1)])
    const sealed = await sealing.seal(secret, context)
    expect(await sealing.open(sealed, context)).toEqual(secret)
    expect(Buffer.from(sealed.split('.')[3] ?? '', 'base64url').includes(Buffer.from(secret))).toBe(false)
    expect(await sealing.seal(secret, context)).not.toBe(sealed)
  })

  test('A64 moved to another row, or used for another purpose, it does not open', async () => {
    const sealing = createSealing([kek(1)])
    const sealed = await sealing.seal(secret, context)
    for (const other of [
      { ...context, id: 'row-2' },
      { ...context, purpose: 'webhook-secret' },
    ])
      await expect(sealing.open(sealed, other)).rejects.toThrow(SealError)
  })

  test('A64 the row cannot be rewritten in the header: it is authenticated', async () => {
    const sealing = createSealing([kek(1)])
    const [header = '', ...rest] = (await sealing.seal(secret, context)).split('.')
    const claims = JSON.parse(Buffer.from(header, 'base64url').toString())
    const moved = [base64url.encode(JSON.stringify({ ...claims, rid: 'row-2' })), ...rest].join('.')
    await expect(sealing.open(moved, { ...context, id: 'row-2' })).rejects.toThrow(SealError)
  })

  test('every changed character is noticed', async () => {
    const sealing = createSealing([kek(1)])
    const sealed = await sealing.seal(secret, context)
    for (let at = 0; at < sealed.length; at++) {
      if (sealed[at] === '.') continue
      // The last character of a segment may carry unused bits: change it by more than those.
      const changed = sealed.slice(0, at) + (sealed[at] === 'A' ? 'w' : 'A') + sealed.slice(at + 1)
      await expect(sealing.open(changed, context)).rejects.toThrow()
    }
    for (const damaged of ['', 'x', 'a.b.c.d.e'])
      await expect(sealing.open(damaged, context)).rejects.toThrow(SealError)
  })

  test('F17 under another key it does not open, and the message says what to look at', async () => {
    const sealed = await createSealing([kek(1)]).seal(secret, context)
    await expect(createSealing([kek(2)]).open(sealed, context)).rejects.toThrow(/KEY_ENCRYPTION_KEY/)
  })

  test('the key-encryption key rotates: the first seals, all open', async () => {
    const old = await createSealing([kek(1)]).seal(secret, context)
    const rotating = createSealing([kek(2), kek(1)])
    expect(await rotating.open(old, context)).toEqual(secret)
    const renewed = await rotating.seal(secret, context)
    expect(await createSealing([kek(2)]).open(renewed, context)).toEqual(secret)
    await expect(createSealing([kek(1)]).open(renewed, context)).rejects.toThrow(SealError)
  })

  test('only the documented algorithms open: a JWE of another kind under the same key is refused', async () => {
    const sealing = createSealing([kek(1)])
    const { kid, prp, rid } = JSON.parse(
      Buffer.from((await sealing.seal(secret, context)).split('.')[0] ?? '', 'base64url').toString(),
    )
    const wrapped = await new CompactEncrypt(secret)
      .setProtectedHeader({ alg: 'A256KW', enc: 'A256GCM', kid, prp, rid })
      .encrypt(kek(1))
    await expect(sealing.open(wrapped, context)).rejects.toThrow(SealError)
  })

  test('a key-encryption key has 32 bytes, and there is at least one', () => {
    expect(() => createSealing([])).toThrow(TypeError)
    expect(() => createSealing([new Uint8Array(16)])).toThrow(TypeError)
  })

  test('it is compact JWE (RFC 7516 §7.1) that another implementation opens', async () => {
    const sealed = await createSealing([kek(1)]).seal(secret, context)
    const [header = '', encryptedKey, iv = '', ciphertext = '', tag = ''] = sealed.split('.')
    expect(encryptedKey).toBe('')
    const cipher = createCipheriv('aes-256-gcm', kek(1), Buffer.from(iv, 'base64url'))
    cipher.setAAD(Buffer.from(header, 'ascii'))
    const again = Buffer.concat([cipher.update(secret), cipher.final()])
    expect(again.toString('base64url')).toBe(ciphertext)
    expect(cipher.getAuthTag().toString('base64url')).toBe(tag)
  })
})
