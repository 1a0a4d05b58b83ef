import type { FastifyReply, FastifyRequest } from 'fastify'
import { problem } from '@orbyte/protocol'

/**
 * A web page's refresh token, in a cookie that scripts cannot read and that goes to the authentication endpoints only.
 * SameSite=Strict keeps it away from requests that other sites cause. Other origins of the same site (another port, a sibling
 * name) are told apart by what the browser says of the request's origin: what it may send along, it may not spend.
 */
const cookieName = 'orbyte_refresh'
const cookiePath = '/api/auth'

export function refreshTokenOfCookie(request: FastifyRequest): string {
  const { origin, host, cookie = '' } = request.headers
  const site = request.headers['sec-fetch-site']
  const isOwnPage = (site === undefined || site === 'same-origin') && (origin === undefined || hostOf(origin) === host)
  if (!isOwnPage) throw problem('forbidden', 'Only a page of this market may renew its login. Open the market itself.')
  const token = new RegExp(`(?:^|;\\s*)${cookieName}=([^;]+)`).exec(cookie)?.[1]
  if (token === undefined)
    throw problem('invalid_request', 'refresh_token: give one. There is none in a cookie either. Log in again.')
  return token
}

export function setRefreshCookie(reply: FastifyReply, token: string, ageMsMax: number) {
  void reply.header('set-cookie', cookieOf(reply, token, Math.floor(ageMsMax / 1_000)))
}

export function clearRefreshCookie(reply: FastifyReply) {
  void reply.header('set-cookie', cookieOf(reply, '', 0))
}

function cookieOf({ request }: FastifyReply, token: string, ageSMax: number): string {
  const secure = request.protocol === 'https' ? '; Secure' : ''
  return `${cookieName}=${token}; Path=${cookiePath}; Max-Age=${ageSMax}; HttpOnly; SameSite=Strict${secure}`
}

function hostOf(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null
}
