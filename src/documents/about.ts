/** What the documents say of the whole: the OpenAPI document's info, and what each of its sections holds. */
import { readFileSync } from 'node:fs'

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
  license: string
}

export const SUMMARY =
  'Exchanges a long-lived key for a short-lived, signed, organization-scoped access token, and publishes the keys ' +
  'that verify it offline.'

export const INFO = {
  title: 'Signet',
  version: manifest.version,
  summary: SUMMARY,
  description: `**Two kinds of credentials.** A *key* authenticates \`/v2/auth/*\` and, as the secret of its client, \`/oauth2/*\`; an
*access token* with management scopes (\`signet:…\`), of the production issuer, authenticates the rest of \`/v2\`. A
token is minted with a key: \`POST /v2/auth/token\`, or, for OAuth clients, \`POST /oauth2/token\`.

**Two issuers.** Production and sandbox have their own keys, key sets and OAuth endpoints; the sandbox’s paths begin with
\`/sandbox\`.

**Tenants.** The tokens of the platform organization act on every organization, all others on their own. What belongs
to another organization answers like what does not exist.

**Requests.** JSON in UTF-8, at most 16 KiB; unknown members, duplicate names and unknown query parameters are refused.
OAuth’s endpoints take forms, of which they ignore what they do not know, and the query. Every \`POST\` and \`PATCH\` of the management API takes an \`Idempotency-Key\`.

**Answers.** Members in \`snake_case\`, moments in RFC 3339 UTC. Answers may gain members: do not refuse those you do not
know. Lists answer \`{ "data": […], "next_cursor": … }\`, the newest first; send \`next_cursor\` as \`cursor\`, with the same
filters, for the next page. \`GET\` resources take \`HEAD\`; a method that a resource does not have is answered with 405
and \`Allow\`.

**Errors** are \`application/problem+json\` (RFC 9457), of which \`error.code\` is for programs; those of OAuth’s endpoints
are what OAuth clients understand (RFC 6749 §5.2). What was sent is never repeated.`,
  license: { name: 'Apache-2.0', identifier: manifest.license },
}

/** The sections, in their order. */
export const TAGS: Readonly<Record<string, string>> = {
  Authentication: 'The exchange of a key for an access token.',
  OAuth: 'The same exchange, introspection and revocation, as OAuth clients and gateways know them.',
  'Key self-service': 'What a key may learn and do about itself.',
  Verification:
    'What any API needs to verify access tokens offline: the public keys, the metadata of the issuers, and what has ' +
    'been revoked.',
  Organizations: 'Tenants. Each owns clients; the platform organization operates the service.',
  Clients:
    'Integrations of an organization, each in one environment, with what their keys may have minted. A production ' +
    'client is approved by the platform before it gets keys.',
  Keys: 'Long-lived credentials of clients. A key is shown once, when it is made.',
  Delegations:
    'That an organization lets a partner mint tokens for it, within ceilings, for as long as it likes.',
  Tokens: 'The ledger: every access token that was issued, and the revocation of single ones.',
  Usage: 'How many tokens each client was given, and how many it was refused.',
  Audit: 'Who did what, to what, when and from where; append-only.',
  'Signing keys': 'The keys that sign access tokens: published ahead, rotated, revoked.',
  Documents: 'This reference, for people and for programs.',
  Service: 'Whether the service runs, and what its errors mean.',
}
