/**
 * Which server: those that a connection string names, which of them is worth a try, and what has been learned of them.
 * All connections of an instance share one, so that what one of them learns, the others need not.
 */
import { posix } from 'node:path'

/** A connection string, or how to reach the embedded server's socket. */
export type DatabaseAddress = string | { host: string; port: number; username: string; database: string }

export type Host = {
  /** For people: without a secret. */
  name: string
  address: { path: string } | { host: string; port: number }
}

/** Of a connection: what the others may do to it. */
export type Member = {
  /** Of PostgreSQL's history: a promoted standby begins a new one. Undefined: not known, or not yet. */
  timeline: number | undefined
  /** Whether nothing is being asked, nor has been answered since then (monotonic, milliseconds). */
  isIdleSince(moment: number): boolean
  close(error: Error): void
}

export type Servers = {
  username: string | undefined
  password: string | undefined
  database: string
  /** As libpq names them; undefined: no TLS. */
  sslMode: string | undefined
  hosts: readonly Host[]
  /** In the order in which they are worth a try. */
  candidates(): Host[]
  reached(host: Host): void
  /** Not there, no answer, or one that does not write: the others first. True: that was the last one to try. */
  failed(host: Host, reason: string): boolean
  /**
   * Why a server on this timeline is not the one to talk to; undefined: it is. Connections to older ones end with that:
   * what is committed there since the fail-over is on no other server.
   */
  refuse(timeline: number | undefined): string | undefined
  join(member: Member): void
  leave(member: Member): void
  /** A statement that was sent then is not answered. What has been idle since goes too: it may be as dead. */
  fellSilent(since: number): void
}

export type ServersOptions = {
  /** What somebody who runs this may want to know. */
  onNotice?: (notice: string) => void
}

const isServers = (target: DatabaseAddress | Servers): target is Servers =>
  typeof target === 'object' && 'candidates' in target

export function createServers(target: DatabaseAddress | Servers, options: ServersOptions = {}): Servers {
  if (isServers(target)) return target
  const { onNotice } = options
  const parsed = typeof target === 'string' ? parseUrl(target) : parseSocket(target)
  const { hosts } = parsed
  const members = new Set<Member>()
  let preferred = 0
  let newest = 0
  let failures = 0

  return {
    ...parsed,
    candidates: () => hosts.map((_, n) => hosts[(preferred + n) % hosts.length] as Host),
    reached(host) {
      failures = 0
      preferred = hosts.indexOf(host)
    },
    failed(host, reason) {
      if (hosts.indexOf(host) === preferred) {
        preferred = (preferred + 1) % hosts.length
        if (hosts.length > 1) onNotice?.(`${host.name} ${reason}; the next is ${hosts[preferred]?.name}`)
      }
      failures++
      if (failures < hosts.length) return false
      failures = 0
      return true
    },
    refuse(timeline) {
      if (timeline === undefined || timeline === newest) return undefined
      if (timeline < newest)
        return `is on timeline ${timeline}, and there is a newer one, ${newest}: it is the primary no more`
      if (newest > 0) onNotice?.(`timeline ${timeline} has begun: connections to servers on ${newest} end`)
      newest = timeline
      for (const member of members)
        if (member.timeline !== undefined && member.timeline < newest)
          member.close(connectionError('CONNECTION_OUTDATED', 'another server is the primary now'))
      return undefined
    },
    join: (member) => void members.add(member),
    leave: (member) => void members.delete(member),
    fellSilent(since) {
      for (const member of members)
        if (member.isIdleSince(since))
          member.close(connectionError('CONNECTION_SILENT', 'the server has fallen silent'))
    },
  }
}

export const connectionError = (code: string, message: string): Error =>
  Object.assign(new Error(message), { code })

function parseSocket(target: Exclude<DatabaseAddress, string>) {
  const { host, port, username, database } = target
  const isFolder = host.startsWith('/')
  const address = isFolder ? { path: posix.join(host, `.s.PGSQL.${port}`) } : { host, port }
  return {
    ...{ username, password: undefined, database, sslMode: undefined },
    hosts: [{ name: isFolder ? 'the server' : `${host}:${port}`, address }],
  }
}

/** `postgres://user:password@host:port,host:port/database?sslmode=…`, which config.ts has seen. */
function parseUrl(url: string) {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#@]+)\/([^/?#]+)(?:\?(.*))?$/.exec(url)
  if (!match) throw new Error('this is no address of a PostgreSQL server')
  const [, user = '', hosts = '', database = '', query] = match
  const [username, password] = [user.split(':', 1)[0] ?? '', user.slice(user.indexOf(':') + 1)]
  return {
    username: decodeURIComponent(username) || undefined,
    password: user.includes(':') ? decodeURIComponent(password) : undefined,
    database: decodeURIComponent(database),
    sslMode: sslModeOf(new URLSearchParams(query).get('sslmode')),
    hosts: hosts.split(',').map((each): Host => {
      const { hostname, port } = new URL(`postgres://${each}/`)
      const host = decodeURIComponent(hostname.replace(/^\[(.*)\]$/, '$1'))
      return { name: each, address: { host, port: Number(port || 5432) } }
    }),
  }
}

const sslModeOf = (mode: string | null) => (mode === null || mode === 'disable' ? undefined : mode)
