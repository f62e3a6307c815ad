/** How a key arrives: `Authorization: <key>`, `Authorization: Bearer <key>` or `X-Api-Key: <key>`, exactly one of them. */
import type { IncomingMessage } from 'node:http'
import { fieldLines } from '../http/fields.ts'

export type PresentedKey =
  | { kind: 'none' }
  | { kind: 'several' }
  | { kind: 'access_token' }
  | { kind: 'text'; text: string }

/** Every header line counts: Node itself would silently keep the first of two `Authorization` lines. */
export function presentedKey(request: Pick<IncomingMessage, 'rawHeaders'>): PresentedKey {
  const authorizations = fieldLines(request, 'authorization')
  const apiKeys = fieldLines(request, 'x-api-key')
  if (authorizations.length + apiKeys.length > 1) return { kind: 'several' }
  const [apiKey] = apiKeys
  if (apiKey !== undefined) return classify(apiKey)
  const [authorization] = authorizations
  if (authorization === undefined) return { kind: 'none' }
  // RFC 9110 §11.1: the scheme's case does not matter. Exactly one space: anything else is left to be malformed.
  return classify(/^bearer /i.test(authorization) ? authorization.slice(7) : authorization)
}

/** A key has no dots; what has two of them is a JWT, and no token begets a token here. */
function classify(text: string): PresentedKey {
  if (text.length < 16_384 && /^[\w-]+\.[\w-]+\.[\w-]*$/.test(text)) return { kind: 'access_token' }
  return { kind: 'text', text }
}
