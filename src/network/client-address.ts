/** Whose request it is, when proxies stand in between (RFC 7239 §8.1: forwarding headers are claims, not facts). */
import type { IncomingMessage } from 'node:http'
import proxyAddr from '@fastify/proxy-addr'
import { canonicalAddress, compileNetworks } from './address.ts'

export type ClientAddress = (request: Pick<IncomingMessage, 'headers' | 'socket'>) => string

/**
 * The canonical address of the client. `X-Forwarded-For` counts only when the peer is a trusted proxy, and then the
 * first address from the right that is none: everything left of it was written by whoever asks. `Forwarded` is not
 * read; where the entry is no address at all, the peer's own address stands.
 */
export function createClientAddress(trustedProxies: readonly string[]): ClientAddress {
  const trusted = compileNetworks(trustedProxies)
  const isTrusted = (entry: string) => {
    const address = canonicalAddress(withoutPort(entry))
    return address !== undefined && trusted(address)
  }
  return (request) => {
    const peer = canonicalAddress(request.socket.remoteAddress ?? '') ?? '0.0.0.0'
    if (request.headers['x-forwarded-for'] === undefined) return peer
    const entry = proxyAddr(request as IncomingMessage, isTrusted)
    return canonicalAddress(withoutPort(entry)) ?? peer
  }
}

/** Some proxies append the port: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function withoutPort(entry: string): string {
  const match = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(entry) ?? /^([\d.]+):\d{1,5}$/.exec(entry)
  return match?.[1] ?? entry
}
