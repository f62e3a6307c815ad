/** The bytes of a request's body, bounded. */
import type { IncomingMessage } from 'node:http'
import { ApiError } from '../errors.ts'

export const MAX_BODY_BYTES = 16 * 1024
/** A byte order mark is not JSON (RFC 8259 §8.1): it is kept, for the parser to refuse. */
const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * From node's own stream. Throws ApiError: 413 past 16 KiB, 400 on what is not UTF-8 or does not arrive whole. A body of a few
 * hundred bytes comes in one piece with its head: then it is there already.
 */
export async function readText(incoming: IncomingMessage): Promise<string> {
  if (Number(incoming.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw tooLarge()
  const bytes = incoming.complete ? take(incoming) : await receive(incoming)
  if (bytes.length > MAX_BODY_BYTES) throw tooLarge()
  try {
    return UTF_8.decode(bytes)
  } catch {
    throw invalid('The body is not valid UTF-8.')
  }
}

/** What has arrived whole, in however many pieces: node hands them out one by one. */
function take(incoming: IncomingMessage): Buffer {
  const chunks: Buffer[] = []
  for (let chunk = incoming.read(); chunk !== null; chunk = incoming.read()) chunks.push(chunk)
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)
}

function receive(incoming: IncomingMessage): Promise<Buffer> {
  if (incoming.destroyed) throw invalid('The body did not arrive whole.')
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= MAX_BODY_BYTES) chunks.push(chunk)
      // Whatever else is on its way is not read.
      else reject(tooLarge())
    })
    incoming.on('end', () => resolve(Buffer.concat(chunks)))
    const fail = () => {
      if (!incoming.complete) reject(invalid('The body did not arrive whole.'))
    }
    incoming.on('error', fail)
    incoming.on('close', fail)
  })
}

const invalid = (detail: string) => new ApiError('invalid_request', detail)
const tooLarge = () =>
  // The connection is of no more use.
  new ApiError('content_too_large', `The body must not exceed ${MAX_BODY_BYTES} bytes.`, {
    headers: { Connection: 'close' },
  })
