import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Endpoint, listEndpoints, signOperatorToken } from '@orbyte/protocol'
import { outcome, startTestServer, type TestServer } from '../fixture-server.ts'

// Made from each endpoint's own access rule, so that none can be forgotten.

let market: TestServer
let userToken: string
let operatorToken: string
beforeAll(async () => {
  market = await startTestServer()
  userToken = (await market.newUser('user@example.org')).token
  operatorToken = await signOperatorToken(market.context.config.secretKey, market.clock.now())
})
afterAll(() => market.close())

const cases = listEndpoints().map(({ group, name, endpoint }) => ({ name: `${group}.${name}`, endpoint }))
const withAccess = (access: Endpoint['access']) => cases.filter(({ endpoint }) => endpoint.access === access)

/** Let in, a caller hears of fields that are missing or things that are not there. */
const refused = /^40[13]|route_not_found|method_not_allowed|^5/

/** With a path parameter that names nothing and no fields: whoever is let in gets no further. */
async function knock({ method, path }: Endpoint, token?: string): Promise<string> {
  const route = `${method} ${path.replace(/\{\w+\}/g, 'nothing')}`
  const answer = await market.call(route, { token, ...(method !== 'GET' && method !== 'DELETE' && { body: {} }) })
  return outcome(answer)
}

test.for(cases.filter(({ endpoint }) => endpoint.access !== 'public'))(
  '$name needs a valid token',
  async ({ endpoint }) => {
    expect(await knock(endpoint)).toBe('401 unauthenticated')
    expect(await knock(endpoint, 'garbage')).toBe('401 unauthenticated')
  },
)

test.for(withAccess('admin'))("$name lets no user in, but the operator's token", async ({ endpoint }) => {
  expect(await knock(endpoint, userToken)).toBe('403 forbidden')
  expect(await knock(endpoint, operatorToken)).not.toMatch(refused)
})

test.for(withAccess('user'))("$name is not opened by the operator's token", async ({ endpoint }) => {
  expect(await knock(endpoint, operatorToken)).toBe('403 forbidden')
})

test.for(withAccess('public'))('$name needs no token', async ({ endpoint }) => {
  expect(await knock(endpoint)).not.toMatch(refused)
})
