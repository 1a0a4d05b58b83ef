import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { createPublicFetch, isPrivateAddress, PrivateAddressError } from './public-fetch.ts'

/** What somebody has at home, or a market. */
async function startServer() {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`.trim())
    const location = new URL(request.url!, 'http://x').searchParams.get('to')
    if (request.url === '/hold') response.write('a')
    else if (location === null) response.setHeader('content-range', 'bytes 1-2/3').writeHead(206).end('bc')
    else response.writeHead(302, { location }).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { asked, port: (server.address() as AddressInfo).port, close: () => server.close() }
}

const home = await startServer()
const market = await startServer()
const marketUrl = `http://127.0.0.1:${market.port}`
beforeEach(() => {
  home.asked.length = 0
  market.asked.length = 0
})
afterAll(() => {
  home.close()
  market.close()
})

const fetchPublic = createPublicFetch({ marketUrl, fetch })
const init = () => ({ headers: { range: 'bytes=1-' }, signal: new AbortController().signal })

test.for([
  ['an address', (port: number) => `http://127.0.0.1:${port}/`],
  ['an address in other words', (port: number) => `http://0x7f.1:${port}/`],
  ['an address of IPv6', (port: number) => `http://[::ffff:127.0.0.1]:${port}/`],
  ['a name', (port: number) => `http://localhost:${port}/`],
  ['a redirect of the market', (port: number) => `${marketUrl}/?to=http://localhost:${port}/`],
] as const)('nothing at home is asked for by %s', async ([, urlOf]) => {
  await expect(fetchPublic(urlOf(home.port), init())).rejects.toThrow(PrivateAddressError)
  expect(home.asked).toEqual([])
})

test('no redirect leads to a file of this machine', async () => {
  await expect(fetchPublic(`${marketUrl}/?to=file:///etc/passwd`, init())).rejects.toThrow(PrivateAddressError)
})

test('redirects without end have one', async () => {
  await expect(fetchPublic(`${marketUrl}/?to=${encodeURIComponent('/?to=%2F')}`, init())).resolves.toMatchObject({
    status: 206,
  })
  const circle = createPublicFetch({
    marketUrl,
    fetch: async () => new Response(null, { status: 302, headers: { location: '/again' } }),
  })
  await expect(circle(marketUrl, init())).rejects.toThrow('from one address to the next')
})

test('the market is asked, wherever it is', async () => {
  const answer = await fetchPublic(`${marketUrl}/file`, init())
  expect([answer.status, await answer.text()]).toEqual([206, 'bc'])
  expect(market.asked).toEqual(['GET /file bytes=1-'])
})

test('others are asked for a part of a file, and are followed to where they have it', async () => {
  const anybody = createPublicFetch({ marketUrl, fetch, isPrivate: () => false })
  const answer = await anybody(`http://localhost:${home.port}/?to=/there`, init())
  expect([answer.status, answer.headers.get('content-range'), await answer.text()]).toEqual([206, 'bytes 1-2/3', 'bc'])
  expect(home.asked).toEqual(['GET /?to=/there bytes=1-', 'GET /there bytes=1-'])
})

test('a download can be given up before it is answered and while it comes', async () => {
  const anybody = createPublicFetch({ marketUrl, fetch, isPrivate: () => false })
  const given = AbortSignal.abort(new Error('given up'))
  await expect(anybody(`http://localhost:${home.port}/`, { headers: {}, signal: given })).rejects.toThrow()
  const giving = new AbortController()
  const answer = await anybody(`http://localhost:${home.port}/hold`, { headers: {}, signal: giving.signal })
  const reader = answer.body!.getReader()
  await reader.read()
  giving.abort()
  await expect(reader.read()).rejects.toThrow()
})

test.for([
  ...[
    '127.0.0.1',
    '10.1.2.3',
    '172.31.255.255',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
  ],
  ...['::1', '::', '::ffff:10.0.0.1', '::10.0.0.1', '64:ff9b::a00:1', 'fd00::1', 'fe80::1', 'ff02::1', 'nonsense'],
])('%s is private', (address) => expect(isPrivateAddress(address)).toBe(true))

test.for(['1.1.1.1', '172.32.0.1', '192.167.1.1', '2606:4700::1111', '::ffff:1.1.1.1'])('%s is public', (address) =>
  expect(isPrivateAddress(address)).toBe(false),
)
