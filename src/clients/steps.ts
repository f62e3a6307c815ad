/** The life of a client: which step leads from where to where, and who may take it. */
import { ApiError } from '../errors.ts'
import { insufficientScope } from '../management/authenticate.ts'
import type { Actor } from '../management/operation.ts'
import type { ClientChanges, ClientRow } from './store.ts'

export type Step = 'approve' | 'suspend' | 'reactivate' | 'revoke'

type Circumstances = {
  actor: Actor
  now: Date
  /** The version that the actor has looked at; undefined: whatever stands there now. */
  seenVersion: string | undefined
  /** Whether an approval takes somebody else than who asked for it. */
  fourEyes: boolean
}

/**
 * What the step changes; nothing where the client is there already. Throws ApiError: `conflict` from a status that the
 * step does not lead from, `insufficient_scope` when it is not the actor's to take.
 */
export function changesOfStep(step: Step, row: ClientRow, circumstances: Circumstances): ClientChanges {
  const { actor } = circumstances
  switch (step) {
    case 'approve':
      return approve(row, circumstances)
    case 'suspend': {
      if (row.status !== 'active' && row.status !== 'suspended') throw notFrom(row, 'active')
      const suspendedByPlatform = row.suspendedByPlatform || actor.isPlatform
      const isSo = row.status === 'suspended' && row.suspendedByPlatform === suspendedByPlatform
      return isSo ? {} : { status: 'suspended', suspendedByPlatform }
    }
    case 'reactivate': {
      if (row.status === 'active') return {}
      if (row.status !== 'suspended') throw notFrom(row, 'suspended')
      if (row.suspendedByPlatform && !actor.isPlatform)
        throw insufficientScope(
          'signet:clients:write',
          'Only the platform reactivates what it has suspended.',
        )
      // What was widened meanwhile has not been approved.
      const isApproved = row.environment === 'sandbox' || row.approvedAt !== null
      return { status: isApproved ? 'active' : 'pending_approval', suspendedByPlatform: false }
    }
    case 'revoke':
      return row.status === 'revoked' ? {} : { status: 'revoked' }
  }
}

function approve(row: ClientRow, { actor, now, seenVersion, fourEyes }: Circumstances): ClientChanges {
  if (row.status !== 'pending_approval') throw notFrom(row, 'pending_approval')
  // Who asks for an approval could change what is to be approved while somebody looks at it.
  if (seenVersion !== undefined && seenVersion !== String(row.version))
    throw new ApiError('conflict', 'The client has changed since that version; look at it again.')
  if (!row.allowedCidrs || row.allowedCidrs.length === 0)
    throw new ApiError('conflict', 'A production client must name its networks before it is approved.', {
      errors: [{ pointer: '/allowed_cidrs', detail: 'must not be empty' }],
    })
  if (row.id === actor.clientId)
    throw insufficientScope('signet:clients:approve', 'A client cannot approve itself.')
  // Another client's name is not another pair of eyes where the key comes from the same hands.
  const hands = [actor.clientId, actor.keyCreatedBy]
  if (fourEyes && hands.some((clientId) => clientId !== null && row.requestedBy.includes(clientId)))
    throw insufficientScope('signet:clients:approve', 'A client cannot approve what it requested itself.')
  return { status: 'active', approvedAt: now, approvedBy: actor.clientId }
}

const notFrom = (row: ClientRow, status: ClientRow['status']) =>
  new ApiError('conflict', `The client is ${row.status}, not ${status}.`)
