import { isJwkSet, type JwkSet } from './key-set.ts'
import { parseJsonObject } from './strict-json.ts'

const TIMEOUT_MS = 5_000
const MAX_BYTES = 512 * 1024

/** The part of the Fetch API that is used: the global `fetch`, or one with an agent or proxy of your own. */
export type JwksFetch = (url: string, init: RequestInit) => Promise<Response>

/**
 * One GET of a JWK set, bounded in time (5 s, body included) and size (512 KiB). Rejects with an Error on
 * anything but 200 and a JWK set, redirects included: the URI is where the keys are, nobody else's word counts.
 */
export async function fetchJwkSet(uri: string, fetch: JwksFetch): Promise<JwkSet> {
  const controller = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  // Raced, not only aborted: a fetch that was passed in may not heed the signal.
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`No JWK set within ${TIMEOUT_MS} ms`))
      controller.abort()
    }, TIMEOUT_MS)
  })
  try {
    return await Promise.race([requestJwkSet(uri, fetch, controller.signal), deadline])
  } finally {
    clearTimeout(timer)
    // Releases the connection of an answer that was not read to its end.
    controller.abort()
  }
}

async function requestJwkSet(uri: string, fetch: JwksFetch, signal: AbortSignal): Promise<JwkSet> {
  const response = await fetch(uri, {
    method: 'GET',
    headers: { accept: 'application/jwk-set+json, application/json' },
    // Not 'error': Cloudflare Workers refuses that value. 'manual' does not follow either, and a redirect then
    // has a status other than 200 (3xx, or 0 in browsers).
    redirect: 'manual',
    signal,
  })
  if (response.status !== 200) throw new Error(`The JWKS URI answered with status ${response.status}`)
  const set = parseJsonObject(await readBody(response))
  if (!isJwkSet(set)) throw new Error('The JWKS URI did not answer with a JWK set')
  return set
}

async function readBody(response: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  const reader = response.body?.getReader()
  for (;;) {
    const chunk = await reader?.read()
    if (chunk?.value === undefined) break
    chunks.push(chunk.value)
    length += chunk.value.length
    if (length > MAX_BYTES) throw new Error(`The JWK set is larger than ${MAX_BYTES} bytes`)
  }
  const body = new Uint8Array(length)
  let offset = 0
  for (const chunk of chunks) {
    body.set(chunk, offset)
    offset += chunk.length
  }
  return body
}
