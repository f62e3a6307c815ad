/**
 * IP addresses and networks, compared in one canonical spelling: IPv4 dotted, IPv6 as RFC 5952 writes it, an
 * IPv4-mapped IPv6 address as the IPv4 address it carries.
 */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** The canonical spelling, or undefined for what is no plain address: zone ids, octal or short forms, garbage. */
export function canonicalAddress(text: string): string | undefined {
  switch (isIP(text)) {
    case 4:
      return text
    case 6: {
      if (text.includes('%')) return undefined
      const address = ipaddr.IPv6.parse(text)
      return address.isIPv4MappedAddress() ? address.toIPv4Address().toString() : address.toRFC5952String()
    }
    default:
      return undefined
  }
}

export type Networks = (canonicalAddress: string) => boolean

/**
 * Compiles networks (`10.0.0.0/8`, `2001:db8::/32`, single addresses) to a test for canonical addresses.
 * Throws a TypeError on an entry that is none: an allow-list with a hole in it must not come into being.
 */
export function compileNetworks(entries: readonly string[]): Networks {
  const networks = entries.map(parseNetwork)
  return (address) => {
    const parsed = ipaddr.parse(address)
    return networks.some(
      ([network, prefix]) => network.kind() === parsed.kind() && parsed.match(network, prefix),
    )
  }
}

function parseNetwork(entry: string): [ipaddr.IPv4 | ipaddr.IPv6, number] {
  // Strictly: to Number, `10.0.0.0/` and `10.0.0.0/ ` would be networks of the whole internet.
  const [, text = '', prefixText] = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(entry) ?? []
  const version = isIP(text)
  const bits = version === 4 ? 32 : 128
  const prefix = prefixText === undefined ? bits : Number(prefixText)
  if (version === 0 || prefix > bits) throw new TypeError('not an IP address or CIDR network')
  const address = ipaddr.parse(text)
  // A mapped network is the IPv4 network that it carries: addresses are compared in that form.
  if (address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && prefix >= 96)
    return [address.toIPv4Address(), prefix - 96]
  return [address, prefix]
}

/** What counts as one source when failures are counted: an IPv4 address, or an IPv6 /64 (one subscriber). */
export function sourceOf(canonical: string): string {
  const address = ipaddr.parse(canonical)
  if (address.kind() === 'ipv4') return canonical
  return `${address
    .toByteArray()
    .slice(0, 8)
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')}/64`
}
