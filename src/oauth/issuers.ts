/** Each environment is an issuer of its own, with endpoints of its own. */
import { ENVIRONMENTS, type Environment } from '../database/schema.ts'
import { issuerOf } from '../exchange/claims.ts'

export type Issuer = {
  environment: Environment
  /** RFC 8414 §2: `iss`, to the letter. */
  id: string
  /** What its endpoints' paths begin with. */
  path: '' | '/sandbox'
}

export const issuersOf = (issuer: string): readonly Issuer[] =>
  ENVIRONMENTS.map((environment) => ({
    environment,
    id: issuerOf(issuer, environment),
    path: environment === 'production' ? '' : '/sandbox',
  }))
