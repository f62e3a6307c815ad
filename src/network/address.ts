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
      const address = parseIpv6(text)
      return address.isIPv4MappedAddress() ? address.toIPv4Address().toString() : address.toRFC5952String()
    }
    default:
      return undefined
  }
}

/**
 * A network as PostgreSQL's cidr keeps it: canonical address, `/`, prefix; a single address is a network of one. Undefined
 * for what is none, and for addresses with bits beyond the prefix: `10.0.0.1/8` means one thing to one reader and
 * another to the next.
 */
export function canonicalNetwork(entry: string): string | undefined {
  try {
    const [address, prefix] = parseNetwork(entry)
    const parser = address.kind() === 'ipv4' ? ipaddr.IPv4 : ipaddr.IPv6
    const text = canonicalAddress(address.toString())
    const first = parser.networkAddressFromCIDR(`${address}/${prefix}`)
    return canonicalAddress(first.toString()) === text ? `${text}/${prefix}` : undefined
  } catch {
    return undefined
  }
}

/** Whether every address of the network is one of these networks'. Both canonical. */
export function isWithin(network: string, networks: readonly string[]): boolean {
  const [address, prefix] = parseNetwork(network)
  return networks
    .map(parseNetwork)
    .some(
      ([outer, outerPrefix]) =>
        outer.kind() === address.kind() && outerPrefix <= prefix && address.match(outer, outerPrefix),
    )
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
  const address = version === 4 ? ipaddr.IPv4.parse(text) : parseIpv6(text)
  // A mapped network is the IPv4 network that it carries: addresses are compared in that form.
  if (address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && prefix >= 96)
    return [address.toIPv4Address(), prefix - 96]
  return [address, prefix]
}

/**
 * RFC 4291 §2.2: the last 32 bits may stand as an IPv4 address. To ipaddr.js, `::192.0.2.1` is then the mapped address
 * `::ffff:192.0.2.1`, which it is not (§2.5.5.1): so they are spelled like the others first.
 */
function parseIpv6(text: string): ipaddr.IPv6 {
  return ipaddr.IPv6.parse(
    text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
      const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(0, 4).map(Number)
      return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
    }),
  )
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
