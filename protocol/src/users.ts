import { z } from 'zod'
import { Done, endpoint, JsonObject, pageInput, pageOf, Timestamp } from './endpoint.ts'
import { idOf } from './ids.ts'

const Email = z
  .email()
  .max(254)
  .transform((text) => text.trim().toLowerCase())
  .describe('Email address; upper and lower case are the same.')
export const passwordCharactersMin = 10
export const Password = z
  .string()
  .min(passwordCharactersMin)
  .max(200)
  .describe(`At least ${passwordCharactersMin} characters.`)
const Label = z.string().trim().min(1).max(100)

export const Role = z.enum(['user', 'admin']).meta({ id: 'Role' })
export type Role = z.infer<typeof Role>

export const User = z
  .object({
    id: idOf('user'),
    email: z.string(),
    name: z.string().nullable(),
    role: Role,
    status: z.enum(['active', 'suspended', 'closed']),
    created_at: Timestamp,
  })
  .meta({ id: 'User' })
export type User = z.output<typeof User>

export const TokenPair = z
  .object({
    access_token: z.string().describe('Send it as `Authorization: Bearer …`.'),
    token_type: z.literal('bearer'),
    expires_in: z.int().describe('Seconds until the access token expires.'),
    refresh_token: z
      .string()
      .nullable()
      .describe('Exchange it once at POST /api/auth/refresh for a new pair. Null: it is in a cookie.'),
  })
  .meta({ id: 'TokenPair' })
export type TokenPair = z.output<typeof TokenPair>

export const Session = z
  .object({
    id: idOf('session'),
    user_agent: z.string().nullable(),
    created_at: Timestamp,
    last_used_at: Timestamp,
    expires_at: Timestamp,
    current: z.boolean().describe('Whether this is the session that asks.'),
  })
  .meta({ id: 'Session' })
export type Session = z.output<typeof Session>

const Credential = {
  name: z.string(),
  prefix: z.string().describe('The first characters, to recognise it by.'),
  created_at: Timestamp,
  last_used_at: Timestamp.nullable(),
  expires_at: Timestamp.nullable(),
}
export const ApiKey = z.object({ id: idOf('apiKey'), ...Credential }).meta({ id: 'ApiKey' })
export type ApiKey = z.output<typeof ApiKey>
export const AgentToken = z.object({ id: idOf('agentToken'), ...Credential }).meta({ id: 'AgentToken' })
export type AgentToken = z.output<typeof AgentToken>

const newCredential = {
  name: Label.describe('What it is for.'),
  expires_in_days: z.int().min(1).max(3_650).optional().describe('Default: it does not expire.'),
}

export const auth = {
  register: endpoint('POST /api/auth/register', {
    summary: 'Register a new user',
    access: 'public',
    status: 201,
    callsPerMinuteMax: 20,
    input: z.strictObject({ email: Email, password: Password, name: Label.optional().describe('How others see you.') }),
    output: User,
    errors: ['email_taken'],
  }),
  token: endpoint('POST /api/auth/token', {
    summary: 'Log in and get an access token',
    description: 'The OAuth 2 password form (`username` is the email address) or the same fields as JSON.',
    access: 'public',
    form: true,
    callsPerMinuteMax: 20,
    input: z.strictObject({
      username: Email,
      password: z.string().min(1).max(200),
      grant_type: z.literal('password').optional(),
      scope: z.string().max(1_000).optional(),
      client_id: z.string().max(200).optional(),
      client_secret: z.string().max(200).optional(),
      in_cookie: z
        .boolean()
        .default(false)
        .describe('For web pages: the refresh token goes into a cookie that scripts cannot read, not into the reply.'),
    }),
    output: TokenPair,
    errors: ['invalid_credentials', 'user_suspended'],
  }),
  refresh: endpoint('POST /api/auth/refresh', {
    summary: 'Exchange a refresh token for a new pair',
    description:
      'A refresh token works once. Using one a second time revokes its whole session: somebody has a copy. Without `refresh_token`, the one in the cookie is exchanged, for one in the cookie; only pages of the market’s own origin may ask for that.',
    access: 'public',
    callsPerMinuteMax: 60,
    input: z.strictObject({ refresh_token: z.string().min(1).max(500).optional() }),
    output: TokenPair,
    errors: ['token_expired', 'user_suspended', 'forbidden'],
  }),
  logout: endpoint('POST /api/auth/logout', { summary: 'End this session', access: 'user', output: Done }),
  me: endpoint('GET /api/auth/me', { summary: 'Get current user details', access: 'user', output: User }),
  updateMe: endpoint('PATCH /api/auth/me', {
    summary: 'Change your name or email address',
    access: 'user',
    input: z.strictObject({
      name: Label.nullable().optional(),
      email: Email.optional(),
      current_password: z.string().max(200).optional().describe('Needed to change the email address.'),
    }),
    output: User,
    errors: ['email_taken', 'invalid_credentials'],
  }),
  changePassword: endpoint('POST /api/auth/password', {
    summary: 'Change your password; all other sessions end',
    access: 'user',
    callsPerMinuteMax: 10,
    input: z.strictObject({ current_password: z.string().min(1).max(200), new_password: Password }),
    output: Done,
    errors: ['invalid_credentials'],
  }),
  sessions: endpoint('GET /api/auth/sessions', {
    summary: 'List your sessions',
    access: 'user',
    output: z.object({ items: z.array(Session) }),
  }),
  revokeSession: endpoint('DELETE /api/auth/sessions/{session_id}', {
    summary: 'End one of your sessions',
    access: 'user',
    input: z.strictObject({ session_id: idOf('session') }),
    output: Done,
    errors: ['not_found'],
  }),
  export: endpoint('GET /api/auth/export', {
    summary: 'Everything that is stored about you, as one JSON document',
    access: 'user',
    callsPerMinuteMax: 10,
    output: JsonObject,
  }),
  close: endpoint('POST /api/auth/close', {
    summary: 'Close your account',
    description:
      'Withdraw your balance and end your tasks first. The ledger’s history stays; name and email address go.',
    access: 'user',
    input: z.strictObject({ current_password: z.string().min(1).max(200) }),
    output: Done,
    errors: ['invalid_credentials', 'account_has_obligations'],
  }),
}

export const apiKeys = {
  list: endpoint('GET /api/api-keys/', {
    summary: 'List your API keys',
    access: 'user',
    input: z.strictObject({ ...pageInput }),
    output: pageOf(ApiKey),
  }),
  create: endpoint('POST /api/api-keys/', {
    summary: 'Create an API key; it is shown only now',
    description: 'For whoever has logged in: a key makes no other key.',
    access: 'user',
    status: 201,
    input: z.strictObject(newCredential),
    errors: ['forbidden'],
    output: ApiKey.extend({ key: z.string().describe('Send it as `Authorization: Bearer …`. It is not shown again.') }),
  }),
  revoke: endpoint('DELETE /api/api-keys/{api_key_id}', {
    summary: 'Revoke an API key',
    access: 'user',
    input: z.strictObject({ api_key_id: idOf('apiKey') }),
    output: Done,
    errors: ['not_found'],
  }),
}

export const agentTokens = {
  list: endpoint('GET /api/agent-tokens/', {
    summary: 'List your agent tokens',
    access: 'user',
    input: z.strictObject({ ...pageInput }),
    output: pageOf(AgentToken),
  }),
  create: endpoint('POST /api/agent-tokens/', {
    summary: 'Create a token that enrols machines as yours; it is shown only now',
    access: 'user',
    status: 201,
    input: z.strictObject(newCredential),
    output: AgentToken.extend({
      token: z.string().describe('Give it to `orbyte agent start --token …`. It is not shown again.'),
    }),
  }),
  revoke: endpoint('DELETE /api/agent-tokens/{agent_token_id}', {
    summary: 'Revoke an agent token; machines that it enrolled stay enrolled',
    access: 'user',
    input: z.strictObject({ agent_token_id: idOf('agentToken') }),
    output: Done,
    errors: ['not_found'],
  }),
}
