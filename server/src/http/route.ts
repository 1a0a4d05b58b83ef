import type { FastifyReply } from 'fastify'
import type { Endpoint, HandlerOutputOf, ParsedInputOf, Role } from '@orbyte/protocol'

/** Who calls, as the access token or the API key says. */
export type Principal = {
  /** Null: the operator, who holds the market's secret key. */
  readonly userId: string | null
  readonly role: Role
  /** The login session; null for an API key and the operator. */
  readonly sessionId: string | null
}

/** Turns the credential of an `Authorization: Bearer` header into who it stands for, or throws a problem. */
export type Authenticate = (credential: string) => Promise<Principal>

/** A key that makes a repetition harmless, and what it covers. */
export type Idempotency = { readonly key: string; readonly endpoint: string; readonly bodyHash: string }

export type Caller = {
  readonly userId: string
  readonly role: Role
  readonly sessionId: string | null
  readonly userAgent: string | null
  readonly idempotency: Idempotency | null
}

export type Route = {
  readonly endpoint: Endpoint
  readonly handle: (input: unknown, caller: Caller, reply: FastifyReply) => Promise<unknown>
}

/** Binds an endpoint of the contract to what it does. For `public` endpoints `caller.userId` may be empty. */
export function route<E extends Endpoint>(
  endpoint: E,
  handle: (input: ParsedInputOf<E>, caller: Caller) => Promise<HandlerOutputOf<E>>,
): Route {
  return { endpoint, handle: handle as Route['handle'] }
}

/** Like `route`, for endpoints that write their reply themselves: streams, text and files. */
export function rawRoute<E extends Endpoint>(
  endpoint: E,
  handle: (input: ParsedInputOf<E>, caller: Caller, reply: FastifyReply) => Promise<unknown>,
): Route {
  return { endpoint, handle: handle as Route['handle'] }
}
