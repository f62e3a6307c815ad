/** `audit verify`: whether the audit trail is what was written, and nothing but that. */
import { type ChainHead, verifyChain } from '../audit/verify.ts'
import { withDatabase } from './database.ts'

/** `12:9f86d0…`, as it is printed; undefined for anything else. */
export function parseHead(text: string): ChainHead | undefined {
  const [, sequence, hash] = /^([1-9]\d{0,14}):([0-9a-f]{64})$/.exec(text) ?? []
  return sequence && hash ? { sequence: Number(sequence), hash } : undefined
}

/** Returns the exit code: 0 where the chain holds, 1 where it is broken. Throws CannotRunError. */
export async function auditVerify(
  variables: Record<string, string | undefined>,
  head: ChainHead | undefined,
  print: (line: string) => void,
): Promise<number> {
  const verdict = await withDatabase(variables, (database) => verifyChain(database, head))
  if (verdict.ok) {
    print(`The audit trail holds: ${verdict.count} events.`)
    if (verdict.head) print(`Head: ${verdict.head.sequence}:${verdict.head.hash}`)
    return 0
  }
  const { sequence, id, reason } = verdict.brokenAt
  print(`The audit trail is broken at sequence ${sequence}${id === undefined ? '' : ` (${id})`}: ${reason}.`)
  return 1
}
