/** The scopes of the management API (design §5.3). They never share a token with others: their audience is the issuer. */
export const MANAGEMENT_SCOPES = [
  'signet:organizations:read',
  'signet:organizations:write',
  'signet:clients:read',
  'signet:clients:write',
  'signet:clients:approve',
  'signet:keys:read',
  'signet:keys:write',
  'signet:delegations:read',
  'signet:delegations:write',
  'signet:tokens:read',
  'signet:tokens:revoke',
  'signet:signing_keys:read',
  'signet:signing_keys:write',
  'signet:audit:read',
  'signet:usage:read',
  'signet:webhooks:read',
  'signet:webhooks:write',
] as const

export type ManagementScope = (typeof MANAGEMENT_SCOPES)[number]

/** What looks like one is one, whether or not it exists. */
export const isManagementScope = (scope: string): boolean => scope.startsWith('signet:')
