import { type BoundedFetch, fetchDocument } from './bounded-fetch.ts'
import { isJwkSet, type JwkSet } from './key-set.ts'
import { parseJsonObject } from './strict-json.ts'

const MAX_BYTES = 512 * 1024

/** The part of the Fetch API that is used: the global `fetch`, or one with an agent or proxy of your own. */
export type JwksFetch = BoundedFetch

/**
 * One GET of a JWK set, bounded in time (5 s, body included) and size (512 KiB). Rejects with an Error on
 * anything but 200 and a JWK set, redirects included.
 */
export async function fetchJwkSet(uri: string, fetch: JwksFetch): Promise<JwkSet> {
  const { body } = await fetchDocument(uri, {
    what: 'JWK set',
    fetch,
    headers: { accept: 'application/jwk-set+json, application/json' },
    maxBytes: MAX_BYTES,
  })
  const set = parseJsonObject(body)
  if (!isJwkSet(set)) throw new Error('The JWKS URI did not answer with a JWK set')
  return set
}
