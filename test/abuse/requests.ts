/** The requests that attacks are made of, as bytes. */
import type { SeededClient } from '../support/seed.ts'

export function requestsOf(client: SeededClient) {
  const head = (...lines: string[]) =>
    ['POST /v2/auth/token HTTP/1.1', 'Host: x', ...lines, '', ''].join('\r\n')
  return {
    /** Of a token, as JSON. */
    body: JSON.stringify({ scopes: { organization_id: client.organizationId, scopes: client.scopes } }),
    head,
    authorized: (...lines: string[]) =>
      head(`Authorization: ${client.key}`, 'Content-Type: application/json', ...lines),
    form: (...lines: string[]) =>
      [
        'POST /oauth2/token HTTP/1.1',
        'Host: x',
        'Content-Type: application/x-www-form-urlencoded',
        ...lines,
        '',
        '',
      ].join('\r\n'),
  }
}
