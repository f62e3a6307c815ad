/** What the revocation feed says, as data: docs/revocation-feed.md. */

/** Of one kind, in the order of its ids: what the view `revocations` has (drizzle/0005_revocations.sql). */
export type RevokedOfKind = {
  kind: string
  ids: readonly string[]
  /** Of the kind `delegation`: whose, one for each id. */
  partnerIds: readonly string[]
  /** Of every kind but `jti`: one for each id, in seconds of Unix time. */
  befores: readonly number[]
}

type CutOffs = Readonly<Record<string, number>>
type DelegationCutOff = { partner_id: string; organization_id: string; before: number }

/** The claim `revoked`. A token is revoked when `jti` lists it, or its `iat` is less than a cut-off of what it names. */
export type Revoked = {
  jti: readonly string[]
  key_id: CutOffs
  client_id: CutOffs
  /** Also of the organization that a token names as `partner_id`. */
  organization_id: CutOffs
  kid: CutOffs
  delegation: readonly DelegationCutOff[]
}

const CUT_OFFS = ['key_id', 'client_id', 'organization_id', 'kid'] as const

/** Equal rows make equal bytes. */
export function buildRevoked(rows: readonly RevokedOfKind[]): Revoked {
  const of = (kind: string) => rows.find((row) => row.kind === kind)
  const cutOffs = (kind: string): CutOffs => {
    const { ids = [], befores = [] } = of(kind) ?? {}
    return Object.fromEntries(ids.map((id, i) => [id, at(befores, i)]))
  }
  const { ids = [], partnerIds = [], befores = [] } = of('delegation') ?? {}
  return {
    jti: of('jti')?.ids ?? [],
    key_id: cutOffs('key_id'),
    client_id: cutOffs('client_id'),
    organization_id: cutOffs('organization_id'),
    kid: cutOffs('kid'),
    delegation: ids.map((id, i) => ({
      partner_id: at(partnerIds, i),
      organization_id: id,
      before: at(befores, i),
    })),
  }
}

/** Whether all that `revoked` says is said by `listed` already. Then nothing has come since; something may have left. */
export function covers(listed: Revoked, revoked: Revoked): boolean {
  const tokens = new Set(listed.jti)
  const nameOf = ({ partner_id, organization_id, before }: DelegationCutOff) =>
    JSON.stringify([partner_id, organization_id, before])
  const delegations = new Set(listed.delegation.map(nameOf))
  return (
    revoked.jti.every((jti) => tokens.has(jti)) &&
    revoked.delegation.every((cutOff) => delegations.has(nameOf(cutOff))) &&
    CUT_OFFS.every((kind) =>
      Object.entries(revoked[kind]).every(
        ([id, before]) => Object.hasOwn(listed[kind], id) && listed[kind][id] === before,
      ),
    )
  )
}

function at<T>(values: readonly T[], index: number): T {
  const value = values[index]
  if (value === undefined) throw new Error('a revocation lacks a part')
  return value
}
