import { api } from '@orbyte/protocol'
import type { FastifyReply } from 'fastify'
import { rawRoute, type Route, route } from '../http/route.ts'
import type { AccountService } from './account-service.ts'
import type { CredentialService } from './credential-service.ts'
import { clearRefreshCookie, refreshTokenOfCookie, setRefreshCookie } from './refresh-cookie.ts'
import type { SessionService } from './session-service.ts'

type Services = { accounts: AccountService; sessions: SessionService; credentials: CredentialService }

export function userRoutes({ accounts, sessions, credentials }: Services): Route[] {
  type Issued = Awaited<ReturnType<typeof sessions.logIn>>
  const inCookie = (reply: FastifyReply, { refresh_token, ...tokens }: Issued) => {
    setRefreshCookie(reply, refresh_token, sessions.ageMsMax)
    return { ...tokens, refresh_token: null }
  }
  return [
    route(api.auth.register, (input) => accounts.register(input)),
    rawRoute(api.auth.token, async (input, caller, reply) => {
      const tokens = await sessions.logIn(input, caller)
      return input.in_cookie ? inCookie(reply, tokens) : tokens
    }),
    rawRoute(api.auth.refresh, async ({ refresh_token }, _caller, reply) => {
      if (refresh_token !== undefined) return sessions.refresh(refresh_token, { fromCookie: false })
      return inCookie(reply, await sessions.refresh(refreshTokenOfCookie(reply.request), { fromCookie: true }))
    }),
    rawRoute(api.auth.logout, async (_input, caller, reply) => {
      const done = await sessions.logOut(caller)
      clearRefreshCookie(reply)
      return done
    }),
    route(api.auth.me, (_input, caller) => accounts.me(caller)),
    route(api.auth.updateMe, (input, caller) => accounts.update(caller, input)),
    route(api.auth.changePassword, (input, caller) => accounts.changePassword(caller, input)),
    route(api.auth.sessions, (_input, caller) => sessions.list(caller)),
    route(api.auth.revokeSession, (input, caller) => sessions.revoke(caller, input.session_id)),
    route(api.auth.export, (_input, caller) => accounts.export(caller)),
    route(api.auth.close, (input, caller) => accounts.close(caller, input.current_password)),

    route(api.apiKeys.list, (input, caller) => credentials.list('apiKey', caller, input)),
    route(api.apiKeys.create, (input, caller) => credentials.createApiKey(caller, input)),
    route(api.apiKeys.revoke, (input, caller) => credentials.revoke('apiKey', caller, input.api_key_id)),

    route(api.agentTokens.list, (input, caller) => credentials.list('agentToken', caller, input)),
    route(api.agentTokens.create, (input, caller) => credentials.createAgentToken(caller, input)),
    route(api.agentTokens.revoke, (input, caller) => credentials.revoke('agentToken', caller, input.agent_token_id)),
  ]
}
