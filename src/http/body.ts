/** The bytes of a request's body, bounded. */
import type { Context } from 'hono'
import { ApiError } from '../errors.ts'

const MAX_BYTES = 16 * 1024
/** A byte order mark is not JSON (RFC 8259 §8.1): it is kept, for the parser to refuse. */
const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Throws ApiError: 413 past 16 KiB, 400 on what is not UTF-8. */
export async function readText(c: Context): Promise<string> {
  const bytes = await readBytes(c).catch((error) => {
    if (error instanceof ApiError) throw error
    throw invalid('The body did not arrive whole.')
  })
  try {
    return UTF_8.decode(bytes)
  } catch {
    throw invalid('The body is not valid UTF-8.')
  }
}

/** Throws ApiError: 413 past 16 KiB. */
export async function readBytes(c: Context): Promise<Uint8Array> {
  const announced = c.req.header('content-length')
  if (announced !== undefined) {
    // Node's parser hands over what was announced and no byte more.
    if (Number(announced) > MAX_BYTES) throw tooLarge()
    return new Uint8Array(await c.req.arrayBuffer())
  }
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of c.req.raw.body ?? []) {
    size += chunk.length
    if (size > MAX_BYTES) throw tooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const invalid = (detail: string) => new ApiError('invalid_request', detail)
const tooLarge = () =>
  // Whatever else is on its way is not read: the connection is of no more use.
  new ApiError('content_too_large', `The body must not exceed ${MAX_BYTES} bytes.`, {
    headers: { Connection: 'close' },
  })
