/** The operations of the management API, in the order in which the reference has them. */
import { auditOperations } from './audit/operations.ts'
import { createClientOperations } from './clients/clients.ts'
import type { Config } from './config.ts'
import { delegationOperations } from './delegations/operations.ts'
import type { KeyFormat } from './keys/key-format.ts'
import { createKeyOperations } from './keys/operations.ts'
import { usageOperations } from './ledger/operations.ts'
import type { Operation } from './management/operation.ts'
import { organizationOperations } from './organizations/organizations.ts'
import { createSigningKeyOperations } from './signing/operations.ts'
import type { Sealing } from './signing/sealing.ts'
import type { Signer } from './signing/signer.ts'
import { tokenOperations } from './tokens/tokens.ts'

export function createOperations(options: {
  config: Pick<Config, 'issuer' | 'fourEyes' | 'signingAlgorithm'>
  keyFormat: KeyFormat
  sealing: Sealing
  signer: Signer
}): readonly Operation[] {
  const { config, keyFormat, sealing, signer } = options
  return [
    ...organizationOperations,
    ...createClientOperations(config),
    ...createKeyOperations({ keyFormat }),
    ...delegationOperations,
    ...tokenOperations,
    ...usageOperations,
    ...auditOperations,
    ...createSigningKeyOperations({ sealing, alg: config.signingAlgorithm, signer }),
  ]
}
