import type { IncomingMessage } from 'node:http'
import { isIPv6 } from 'node:net'

type Arrived = Pick<IncomingMessage, 'headers'> & { readonly socket: { readonly remoteAddress?: string | undefined } }

/**
 * Where a call comes from, as far as it can be believed: each of our own `proxies` has added the address that it saw to the end of
 * X-Forwarded-For. What stands before those is what the caller wrote, who may write anything.
 */
export function clientAddress({ headers, socket }: Arrived, proxies: number): string {
  const forwarded = [headers['x-forwarded-for'] ?? []].flat().join(',').split(',')
  const seen = [socket.remoteAddress ?? '', ...forwarded.map((address) => address.trim()).reverse()].filter(Boolean)
  return seen[Math.min(proxies, seen.length - 1)] ?? ''
}

/** What limits count as one caller: an IPv4 address, or the network of 64 bits that whoever has IPv6 gets to themselves. */
export function callerNetwork(address: string): string {
  const [, ipv4] = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address) ?? []
  if (ipv4 !== undefined) return ipv4
  if (!isIPv6(address)) return address
  const [head = '', tail] = address.split('%')[0]!.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const missing = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length
  const all = [...groups(head), ...Array<string>(Math.max(0, missing)).fill('0'), ...groups(tail ?? '')]
  return `${all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
