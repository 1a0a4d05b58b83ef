import { lookup as systemLookup, type LookupAddress } from 'node:dns'
import { type IncomingMessage, request as httpRequest, type RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { Readable } from 'node:stream'

export type PublicFetchOptions = {
  /** The market, which may be anywhere: it is where the owner said that it is. */
  readonly marketUrl: string
  readonly fetch: typeof fetch
  /** For tests: whether an address is one that nobody but the owner should reach from here. */
  readonly isPrivate?: (address: string) => boolean
}
export type PublicFetch = (
  url: string,
  init: { headers: Record<string, string>; signal: AbortSignal },
) => Promise<Response>

/** An address, or what a redirect leads to, that is not to be asked. Trying again does not help. */
export class PrivateAddressError extends Error {}

const redirectsMax = 5
const privateNetworks = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.168.0.0/16', '198.18.0.0/15', '224.0.0.0/4', '240.0.0.0/4'],
  // With IPv4 inside (mapped ones are looked up by themselves), local, and to many.
  ...['::/96', '64:ff9b::/96', '64:ff9b:1::/48', '2002::/16', 'fc00::/7', 'fe80::/10', 'ff00::/8'],
]
const blocked = new BlockList()
for (const network of privateNetworks) {
  const [address, bits] = network.split('/') as [string, string]
  blocked.addSubnet(address, Number(bits), address.includes(':') ? 'ipv6' : 'ipv4')
}

/** Not of the public internet: this machine, its network at home, a cloud's metadata, multicast. */
export function isPrivateAddress(address: string): boolean {
  const family = isIP(address)
  return family === 0 || blocked.check(address, family === 6 ? 'ipv6' : 'ipv4')
}

/**
 * Fetches what a market's catalogue names, from the market itself or from the public internet: nobody gets to send requests into
 * an owner's home through a model's URL. Looked at when the connection is made, so that no name that changes its address and no
 * redirect leads around it.
 */
export function createPublicFetch({ marketUrl, fetch, isPrivate = isPrivateAddress }: PublicFetchOptions): PublicFetch {
  const market = new URL(marketUrl).origin
  const askOnce = (url: URL, init: Parameters<PublicFetch>[1]) =>
    url.origin === market ? fetch(url, { ...init, redirect: 'manual' }) : askPublic(url, { ...init, isPrivate })

  return async (first, init) => {
    let url = new URL(first)
    for (let redirects = 0; redirects <= redirectsMax; redirects++) {
      const answer = await askOnce(url, init)
      const location = answer.status >= 300 && answer.status < 400 ? answer.headers.get('location') : null
      if (location === null) return answer
      await answer.body?.cancel()
      url = new URL(location, url)
      if (!/^https?:$/.test(url.protocol)) throw new PrivateAddressError(`it leads to ${url.protocol}`)
    }
    throw new Error('it leads from one address to the next')
  }
}

type Asking = Parameters<PublicFetch>[1] & Required<Pick<PublicFetchOptions, 'isPrivate'>>

async function askPublic(url: URL, { headers, signal, isPrivate }: Asking): Promise<Response> {
  // A name that is an address is not looked up.
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (isIP(host) !== 0 && isPrivate(host)) throw refusal(host)
  const options: RequestOptions = { headers, signal, lookup: publicLookup(isPrivate), agent: false }
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest
    send(url, options, resolve).on('error', reject).end()
  })
  const body = Readable.toWeb(answer) as ReadableStream<Uint8Array>
  const { statusCode = 0, headersDistinct } = answer
  const pairs = Object.entries(headersDistinct).flatMap(([name, values]) =>
    (values ?? []).map((value): [string, string] => [name, value]),
  )
  return new Response(body, { status: statusCode, headers: pairs })
}

function publicLookup(isPrivate: (address: string) => boolean): LookupFunction {
  return (hostname, options, done) => {
    systemLookup(hostname, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      const [first] = addresses ?? []
      if (error || !first) return done(error ?? new Error(`${hostname} has no address`), '')
      const found = addresses.find(({ address }) => isPrivate(address))
      if (found) return done(refusal(found.address), '')
      if (options.all) return done(null, addresses)
      return done(null, first.address, first.family)
    })
  }
}

function refusal(address: string): PrivateAddressError {
  return new PrivateAddressError(
    `${address} is no address of the public internet. If the file is yours, put it into a folder and start with --model-folder`,
  )
}
