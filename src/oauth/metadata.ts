/** What an issuer says of itself (RFC 8414), for clients and gateways that know nothing but its name. */
import { hash } from 'node:crypto'
import * as v from 'valibot'
import type { SigningAlgorithm } from '../config.ts'
import type { Description } from '../http/description.ts'
import { ASSERTION_ALGORITHMS } from '../keys/assertion.ts'
import { MANAGEMENT_SCOPES } from '../management/scopes.ts'
import type { Signer } from '../signing/signer.ts'
import { GRANT_TYPES } from './grants.ts'
import type { Issuer } from './issuers.ts'
import { AUTHENTICATION_METHODS } from './presented-client.ts'

export type Metadata = { body: string; etag: string }

/**
 * Where the document is. RFC 8414 §3 puts the name between the host and the issuer's path. OpenID Connect Discovery 1.0
 * §4 appends it, RFC 8414 §5 allows either for that name, and some clients look only there; that they find us does not
 * make us an OpenID Provider.
 */
export const metadataPlaces = ({ path }: Issuer): readonly { id: string; path: string }[] =>
  path === ''
    ? [
        { id: 'getMetadata', path: '/.well-known/oauth-authorization-server' },
        { id: 'getOpenIdMetadata', path: '/.well-known/openid-configuration' },
      ]
    : [
        { id: 'getSandboxMetadata', path: `/.well-known/oauth-authorization-server${path}` },
        { id: 'getSandboxOpenIdMetadata', path: `${path}/.well-known/openid-configuration` },
        { id: 'getSandboxOpenIdMetadataInserted', path: `/.well-known/openid-configuration${path}` },
      ]

/** The issuer's document, the same bytes for as long as it says the same. */
export function createMetadata(
  dependencies: { signer: Pick<Signer, 'jwks'>; signingAlgorithm: SigningAlgorithm },
  issuer: Issuer,
): () => Metadata {
  const { signer, signingAlgorithm } = dependencies
  let built: (Metadata & { algorithms: string }) | undefined

  return function metadata() {
    // A key goes on signing as it does when the configuration names another algorithm: the keys say which there are.
    const ofKeys = new Set(signer.jwks(issuer.environment)?.set.keys.map(({ alg }) => String(alg)))
    const algorithms = ofKeys.size > 0 ? [...ofKeys].sort() : [signingAlgorithm]
    if (built?.algorithms !== algorithms.join())
      built = { ...buildMetadata(issuer, algorithms), algorithms: algorithms.join() }
    return built
  }
}

/** Every URL is made of the configured issuer: what a request says of hosts has no part in it. */
export function buildMetadata({ id, environment }: Issuer, signingAlgorithms: readonly string[]): Metadata {
  const body = JSON.stringify({
    issuer: id,
    token_endpoint: `${id}/oauth2/token`,
    jwks_uri: `${id}/.well-known/jwks.json`,
    introspection_endpoint: `${id}/oauth2/introspect`,
    revocation_endpoint: `${id}/oauth2/revoke`,
    // Ours (docs/revocation-feed.md); RFC 8414 §2 has no word for it.
    signet_revocations_uri: `${id}/oauth2/revocations`,
    // Absent, it would mean authorization_code and implicit (§2).
    grant_types_supported: GRANT_TYPES,
    // §2 requires the member, §3.2 forbids empty lists, and there is no authorization endpoint: parsers insist on it.
    response_types_supported: [],
    // Those of clients are theirs to name; these are ours. They are the production issuer's.
    ...(environment === 'production' ? { scopes_supported: MANAGEMENT_SCOPES } : {}),
    token_endpoint_auth_methods_supported: AUTHENTICATION_METHODS,
    token_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
    introspection_endpoint_auth_methods_supported: AUTHENTICATION_METHODS,
    introspection_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
    revocation_endpoint_auth_methods_supported: AUTHENTICATION_METHODS,
    revocation_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
    // RFC 9701 §7.
    introspection_signing_alg_values_supported: signingAlgorithms,
    service_documentation: `${id.replace(/\/sandbox$/, '')}/docs`,
  })
  return { body, etag: `"${hash('sha256', body, 'base64url')}"` }
}

const FIELDS = { ETag: 'A strong tag of the document.', 'Cache-Control': 'How long it may be kept.' }
const strings = (examples: readonly string[]) => v.pipe(v.array(v.string()), v.examples([[...examples]]))
const url = (path: string) => v.pipe(v.string(), v.url(), v.examples([`https://auth.example.com${path}`]))

const MetadataDocument = v.pipe(
  v.strictObject({
    issuer: url(''),
    token_endpoint: url('/oauth2/token'),
    jwks_uri: url('/.well-known/jwks.json'),
    introspection_endpoint: url('/oauth2/introspect'),
    revocation_endpoint: url('/oauth2/revoke'),
    signet_revocations_uri: v.pipe(url('/oauth2/revocations'), v.description('The revocation feed.')),
    grant_types_supported: strings(GRANT_TYPES),
    response_types_supported: v.pipe(
      v.array(v.string()),
      v.description('Empty: there is no authorization endpoint.'),
      v.examples([[]]),
    ),
    scopes_supported: v.optional(strings(['signet:clients:read'])),
    token_endpoint_auth_methods_supported: strings(AUTHENTICATION_METHODS),
    token_endpoint_auth_signing_alg_values_supported: strings(ASSERTION_ALGORITHMS),
    introspection_endpoint_auth_methods_supported: strings(AUTHENTICATION_METHODS),
    introspection_endpoint_auth_signing_alg_values_supported: strings(ASSERTION_ALGORITHMS),
    revocation_endpoint_auth_methods_supported: strings(AUTHENTICATION_METHODS),
    revocation_endpoint_auth_signing_alg_values_supported: strings(ASSERTION_ALGORITHMS),
    introspection_signing_alg_values_supported: strings(['ES256']),
    service_documentation: url('/docs'),
  }),
  v.title('Metadata'),
  v.description('Authorization server metadata (RFC 8414 §2).'),
)

export const describeMetadata = (issuer: Issuer): readonly Description[] =>
  metadataPlaces(issuer).map(({ id, path }) => ({
    id,
    method: 'GET',
    path,
    tag: 'Verification',
    summary: `Read what the ${issuer.environment} issuer offers`,
    description: `Authorization server metadata (RFC 8414) of the issuer \`${issuer.id}\`, the same bytes at ${metadataPlaces(
      issuer,
    )
      .map((place) => `\`${place.path}\``)
      .join(', ')}. Cacheable; readable by pages of any origin.`,
    security: 'none',
    answers: {
      200: { description: 'The document.', schema: MetadataDocument, headers: FIELDS },
      304: { description: 'Unchanged since the `ETag` in `If-None-Match`.', headers: FIELDS },
    },
    errors: ['server_error'],
  }))
