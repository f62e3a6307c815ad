/** The key-encryption key of the embedded database: made once, kept in the data folder, readable by its owner only. */
import { randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Reads the key, or makes it. Processes that start at once end up with the same one. */
export async function keepKeyEncryptionKey(dataDir: string): Promise<Uint8Array> {
  const path = join(dataDir, 'key-encryption-key')
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const kept = await read(path)
  if (kept) return kept

  // Written beside and linked: the file appears whole, and only if no other process was first.
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  await writeFile(draft, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600, flush: true })
  try {
    await link(draft, path).catch(unless('EEXIST'))
    // What is sealed under it is durable: so must be its name.
    const folder = await open(dataDir)
    await folder.sync().finally(() => folder.close())
  } finally {
    await rm(draft)
  }
  return keepKeyEncryptionKey(dataDir)
}

async function read(path: string): Promise<Uint8Array | undefined> {
  const text = await readFile(path, 'utf8').catch(unless('ENOENT'))
  if (text === undefined) return undefined
  const key = new Uint8Array(Buffer.from(text.trim(), 'base64'))
  if (key.length !== 32) throw new Error(`${path} does not hold a key-encryption key of 32 bytes`)
  return key
}

const unless = (code: string) => (error: NodeJS.ErrnoException) => {
  if (error.code === code) return undefined
  throw error
}
