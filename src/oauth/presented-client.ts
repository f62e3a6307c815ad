/** How a client authenticates at OAuth's endpoints (RFC 6749 §2.3.1, RFC 7523 §2.2): in exactly one way. */
import type { IncomingMessage } from 'node:http'
import type { Environment } from '../database/schema.ts'
import { ApiError } from '../errors.ts'
import { fieldLines } from '../http/fields.ts'
import type { Presented } from '../keys/proof.ts'
import { type Form, formDecode } from './form.ts'

export const AUTHENTICATION_METHODS = [
  'client_secret_basic',
  'client_secret_post',
  'private_key_jwt',
] as const

const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/** Was meant to authenticate, and cannot. */
const MALFORMED: Presented = { kind: 'text', text: '' }

/**
 * What the client presents to the issuer of `environment`. Throws ApiError `invalid_request` where the header and the
 * body name different clients.
 */
export function presentedClient(
  request: Pick<IncomingMessage, 'rawHeaders'>,
  form: Form,
  environment: Environment,
): Presented {
  const authorizations = fieldLines(request, 'authorization')
  const clientId = form.get('client_id')
  const secret = form.get('client_secret')
  const assertion = form.get('client_assertion')
  const assertionType = form.get('client_assertion_type')
  const hasAssertion = assertion !== undefined || assertionType !== undefined
  if (authorizations.length + Number(secret !== undefined) + Number(hasAssertion) > 1)
    return { kind: 'several' }

  const [authorization] = authorizations
  if (authorization !== undefined) {
    const basic = parseBasic(authorization)
    if (!basic) return MALFORMED
    if (clientId !== undefined && clientId !== basic.clientId)
      throw new ApiError('invalid_request', 'client_id is not the one of the Authorization header.')
    return { kind: 'client_secret', environment, ...basic }
  }
  if (hasAssertion) {
    if (assertion === undefined || assertionType !== JWT_BEARER) return MALFORMED
    return { kind: 'client_assertion', assertion, clientId, environment }
  }
  if (secret === undefined) return { kind: 'none' }
  return clientId === undefined ? MALFORMED : { kind: 'client_secret', clientId, secret, environment }
}

/** RFC 7617 §2, each half form-encoded before (RFC 6749 §2.3.1): some clients encode even what need not be. */
function parseBasic(authorization: string): { clientId: string; secret: string } | undefined {
  const [, encoded] = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(authorization) ?? []
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon === -1) return undefined
  const clientId = formDecode(text.slice(0, colon))
  const secret = formDecode(text.slice(colon + 1))
  return clientId === undefined || secret === undefined ? undefined : { clientId, secret }
}
