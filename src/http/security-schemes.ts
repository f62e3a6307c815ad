/** What authenticates, as the OpenAPI document says it. */
import type { Description } from './description.ts'

export const securitySchemesOf = (descriptions: readonly Description[], issuer: string) => ({
  access_token: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description:
      'An access token of the production issuer with management scopes (`signet:…`), by `POST /v2/auth/token` or ' +
      '`POST /oauth2/token`. Each operation names the scope that it needs.',
  },
  oauth2: {
    type: 'oauth2',
    description: 'The same access token, for clients that get it themselves.',
    flows: {
      clientCredentials: { tokenUrl: `${issuer}/oauth2/token`, scopes: scopesOf(descriptions) },
    },
  },
  key: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'key',
    description: 'A client’s key. It may stand in `Authorization` without `Bearer`, too.',
  },
  api_key: {
    type: 'apiKey',
    in: 'header',
    name: 'X-Api-Key',
    description: 'A client’s key, in a field of its own; not together with `Authorization`.',
  },
  client: {
    type: 'http',
    scheme: 'basic',
    description:
      '`client_secret_basic` (RFC 6749 §2.3.1): the client’s id, and one of its keys as the secret. Or ' +
      '`client_secret_post`, or `private_key_jwt` (RFC 7523), in the body; one of them only.',
  },
})

/** Every scope, and what it is for. */
const scopesOf = (descriptions: readonly Description[]): Record<string, string> =>
  Object.fromEntries(
    [...Map.groupBy(descriptions, ({ scope }) => scope)]
      .flatMap(([scope, ofScope]) =>
        scope === undefined ? [] : [[scope, `${ofScope.map(({ summary }) => summary).join('; ')}.`] as const],
      )
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )

/** Any one of them will do. */
export function securityOf(
  security: Description['security'],
  scope: string | undefined,
): Record<string, string[]>[] {
  switch (security) {
    case 'access_token':
      return ['access_token', 'oauth2'].map((name) => ({ [name]: scope === undefined ? [] : [scope] }))
    case 'key':
      return [{ key: [] }, { api_key: [] }]
    case 'client':
      return [{ client: [] }]
    case 'none':
      return []
  }
}
