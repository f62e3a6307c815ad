/** Delegations: that an organization lets a partner mint tokens for it. */
import { createPolicyCache, type ReadOptions } from '../database/policy-cache.ts'
import { idPattern } from '../ids.ts'
import type { DelegationParties, DelegationRows, DelegationStore } from './store.ts'

export type { DelegationRows }

export type Delegations = {
  /** From memory only. */
  recall(parties: DelegationParties): DelegationRows | undefined
  /** The delegation between these parties, whatever its status; undefined when there is none. */
  find(parties: DelegationParties): Promise<DelegationRows | undefined>
  /** From rows younger than `judged`. */
  findAgain(
    parties: DelegationParties,
    judged: DelegationRows | undefined,
    options: ReadOptions,
  ): Promise<DelegationRows | undefined>
}

const ORGANIZATION_ID = idPattern('organization')

export function createDelegations(options: { store: DelegationStore; cacheSize: number }): Delegations {
  const cache = createPolicyCache<DelegationRows>({
    max: options.cacheSize,
    read: (id, readOptions) => options.store.find(partiesOf(id), readOptions),
  })
  return {
    recall: (parties) => cache.recall(idOf(parties)),
    async find(parties) {
      // What cannot be an id names no organization; the database need not be asked.
      return ORGANIZATION_ID.test(parties.organizationId) ? cache.find(idOf(parties)) : undefined
    },
    async findAgain(parties, judged, readOptions) {
      if (!ORGANIZATION_ID.test(parties.organizationId)) return undefined
      return cache.findAgain(idOf(parties), judged, readOptions)
    },
  }
}

const idOf = ({ partnerId, organizationId, environment }: DelegationParties) =>
  JSON.stringify([partnerId, organizationId, environment])

function partiesOf(id: string): DelegationParties {
  const [partnerId, organizationId, environment] = JSON.parse(id)
  return { partnerId, organizationId, environment }
}
