/** The token that is given for another one (RFC 8693): whether it may be, and what is still to be judged of it. */
import type { AccessToken, Actor } from '#sdk'
import type { Environment } from '../database/schema.ts'
import type { InspectToken } from '../tokens/inspection.ts'
import { issuerOf } from './claims.ts'
import type { Denial, SubjectToken } from './policy.ts'

/** As they were presented. */
export type PresentedTokens = { subjectToken: string; actorToken: string | undefined }

/** Of them, a token bears as many at most: RFC 8693 §4.1 sets no bound, headers do. */
export const MAX_ACTORS = 5

type Holder = { id: string; environment: Environment }

/** By what the database says now. Rejects with ApiError `unavailable`. */
export type FindSubject = (presented: PresentedTokens, client: Holder) => Promise<SubjectToken | Denial>

export const createFindSubject =
  ({ inspectToken, issuer }: { inspectToken: InspectToken; issuer: string }): FindSubject =>
  async ({ subjectToken, actorToken }, client) => {
    const subject = await inspectToken(subjectToken, client.environment)
    const actor = actorToken === undefined ? undefined : await inspectToken(actorToken, client.environment)
    if (!subject || (actorToken !== undefined && !actor)) return deny('subject_invalid')
    return judgeSubject({ subject, actor, client, issuer: issuerOf(issuer, client.environment) })
  }

/** Pure. `subject` and `actor` are tokens of that environment that were found active. */
export function judgeSubject(facts: {
  subject: AccessToken
  actor: AccessToken | undefined
  client: Holder
  /** Of the client's environment. */
  issuer: string
}): SubjectToken | Denial {
  const { subject, actor, client, issuer } = facts
  // Its own, or a stolen token could be laundered into others (RFC 8693 §2.1).
  const isOwn = (token: AccessToken) =>
    token.iss === issuer && token.client_id === client.id && token.environment === client.environment
  if (!isOwn(subject) || isBound(subject) || !mayBeActedFor(subject, { iss: issuer, sub: client.id }))
    return deny('subject_invalid')
  if (actor && (!isOwn(actor) || isBound(actor) || actor.organization_id !== subject.organization_id))
    return deny('subject_invalid')
  const audience = typeof subject.aud === 'string' ? subject.aud : subject.aud[0]
  if (depthOf(subject.act) >= MAX_ACTORS) return deny('too_many_actors')
  return {
    jti: subject.jti,
    subjectJtis: subject.subject_jtis ?? [],
    scopes: subject.scope.split(' '),
    audience,
    organizationId: subject.organization_id,
    issuedAt: subject.iat,
    expiresAt: subject.exp,
    act: subject.act,
  }
}

/** Bound to a key (RFC 7800): we ask for no proof of it, and must not make a bearer token of one. */
const isBound = (token: AccessToken) => Object.hasOwn(token, 'cnf')

/** RFC 8693 §4.4: `may_act` names who may. By issuer and subject: another issuer's may bear the same name. */
function mayBeActedFor(token: AccessToken, who: { iss: string; sub: string }): boolean {
  if (!Object.hasOwn(token, 'may_act')) return true
  const named = token.may_act as Partial<Actor> | null
  return named?.iss === who.iss && named.sub === who.sub
}

function depthOf(act: Actor | undefined): number {
  return act === undefined ? 0 : 1 + depthOf(act.act)
}

const deny = <Reason extends 'subject_invalid' | 'too_many_actors'>(reason: Reason) => ({
  ok: false as const,
  reason,
})
