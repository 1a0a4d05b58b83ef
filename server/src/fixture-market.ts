import {
  api,
  type Endpoint,
  fieldPlace,
  type InputOf,
  type OutputOf,
  pathParams,
  signOperatorToken,
} from '@orbyte/protocol'
import {
  connectAgent,
  type DeviceWire,
  deviceWire,
  type HelloFields,
  type Machine,
  newMachine,
  type ScriptedAgent,
} from './agents/fixture-agent.ts'
import { type Config, defaultLimits, type Limits } from './config.ts'
import { type Answer, logIn, startTestServer, testPassword, type TestServer, type TestUser } from './fixture-server.ts'
import { verifyLedger } from './ledger/ledger-verify.ts'
import type { Outside } from './server.ts'

type Task = OutputOf<typeof api.tasks.get>
type NewTask = InputOf<typeof api.tasks.create>
/** Who calls, with what else they send. */
type Asker = Pick<TestUser, 'token'> & { headers?: Record<string, string> }
type Options = { config?: Partial<Config>; limits?: Partial<Limits>; outside?: Outside }

/** A market with people who have money, and machines whose side of the socket the test speaks. */
export type Market = Awaited<ReturnType<typeof startMarket>>

const yearMs = 365 * 86_400_000
export const testLimits: Limits = { ...defaultLimits, callLimitFactor: 1_000, callsPerMinuteMax: 0 }

export async function startMarket({ config = {}, limits = {}, outside = {} }: Options = {}) {
  // Tests move the clock by days, and nobody logs in again meanwhile.
  const changes = { accessTokenMs: yearMs, allowEmulatedGpus: true, ...config, limits: { ...testLimits, ...limits } }
  const server = await startTestServer(changes, outside)
  return marketOn(server)
}

export function marketOn(server: TestServer) {
  const agents = new Set<ScriptedAgent>()
  const people: TestUser[] = []
  let made = 0

  async function person(balance = '0'): Promise<TestUser> {
    const user = await server.newUser(`person-${++made}-${Math.abs(server.clock.now())}@example.org`)
    people.push(user)
    if (balance !== '0') await ask(user, api.wallet.deposit, { amount: balance })
    return user
  }

  /** Calls an endpoint; throws unless it is answered with a 2xx. */
  async function ask<E extends Endpoint>(user: Asker | null, endpoint: E, input: InputOf<E>): Promise<OutputOf<E>> {
    const answer = await attempt(user, endpoint, input)
    if (answer.status >= 400) throw new Error(`${endpoint.method} ${endpoint.path}: ${JSON.stringify(answer.body)}`)
    return answer.body as OutputOf<E>
  }

  /** Calls an endpoint, whatever the answer. */
  function attempt<E extends Endpoint>(user: Asker | null, endpoint: E, input: InputOf<E>): Promise<Answer> {
    const fields = Object.entries(input as Record<string, unknown>)
    const at = (place: string) => fields.filter(([name]) => fieldPlace(endpoint, name) === place)
    let path: string = endpoint.path
    for (const name of pathParams(path))
      path = path.replace(`{${name}}`, encodeURIComponent(String((input as Record<string, unknown>)[name])))
    const query = new URLSearchParams(
      Object.fromEntries(at('query').map(([name, value]) => [name, String(value)])),
    ).toString()
    const hasBody = endpoint.method !== 'GET' && endpoint.method !== 'DELETE'
    return server.call(`${endpoint.method} ${path}${query && `?${query}`}`, {
      token: user?.token,
      ...(user?.headers && { headers: user.headers }),
      ...(hasBody && { body: Object.fromEntries(at('body')) }),
    })
  }

  /** An agent of `owner`'s, let in, with one device of its own unless it is given some. */
  async function machine(owner: TestUser, devices: Partial<DeviceWire>[] = [{}]): Promise<ScriptedAgent> {
    const { token } = await ask(owner, api.agentTokens.create, { name: 'machine' })
    const number = ++made
    const reported = devices.map((fields, index) => deviceWire({ uuid: `GPU-${number}-${index}`, index, ...fields }))
    return connected(await connectAgent(server.url, newMachine(token), { devices: reported }))
  }

  async function cancelAll(user: TestUser) {
    for (const status of ['pending', 'running'] as const) {
      const { body } = await attempt(user, api.tasks.list, { status })
      // Whoever cannot log in any more has nothing left to cancel.
      const { items = [] } = body as { items?: { id: string }[] }
      for (const { id } of items) await attempt(user, api.tasks.cancel, { task_id: id })
    }
  }

  function connected(agent: ScriptedAgent): ScriptedAgent {
    agents.add(agent)
    return agent
  }

  return {
    ...server,
    person,
    ask,
    attempt,
    machine,

    /** A machine that the test has made. */
    connect: async (own: Machine, devices: DeviceWire[]) => connected(await connectAgent(server.url, own, { devices })),

    /** The same machine again, with what it says that it still has. */
    async reconnect(agent: ScriptedAgent, hello: HelloFields = {}): Promise<ScriptedAgent> {
      return connected(await connectAgent(server.url, agent.machine, { devices: agent.devices, hello }))
    },

    /** Submits a task of type "other". */
    submit: (renter: TestUser, fields: Partial<NewTask> = {}) =>
      ask(renter, api.tasks.create, { task_type: 'other', input_data: {}, ...fields }),
    task: (renter: TestUser, id: string): Promise<Task> => ask(renter, api.tasks.get, { task_id: id }),
    balance: async (user: TestUser) => (await ask(user, api.wallet.get, {})).balance,
    held: async (user: TestUser) => (await ask(user, api.wallet.get, {})).held,

    /** Asks until it is so. */
    async until<T>(look: () => Promise<T>, isSo: (found: T) => boolean): Promise<T> {
      for (let tries = 0; tries < 3_000; tries++) {
        const found = await look()
        if (isSo(found)) return found
      }
      throw new Error('it never came to be')
    },

    async admin(): Promise<TestUser> {
      const token = await signOperatorToken(server.context.config.secretKey, server.clock.now())
      const email = `admin-${++made}@example.org`
      const answer = await server.call('POST /api/admin/admins', { token, body: { email, password: testPassword } })
      const { access_token, refresh_token } = await logIn(server.call, email)
      const { id } = answer.body as { id: string }
      return { id, email, password: testPassword, token: access_token, refreshToken: refresh_token }
    },

    ledgerProblems: async () => (await server.context.database.read(verifyLedger)).problems,

    /** Between tests that share a market: tasks end, everybody goes home, and the ledger still adds up. */
    async clear() {
      for (const user of people.splice(0)) await cancelAll(user)
      for (const agent of agents) await agent.disconnect()
      agents.clear()
      const noneThere = async () => (await ask(null, api.gpus.list, { available: true })).items.length === 0
      for (let tries = 0; !(await noneThere()); tries++) if (tries > 3_000) throw new Error('a GPU stays')
      await checkLedger(server)
    },

    async close() {
      await checkLedger(server)
      await server.close()
      for (const agent of agents) await agent.disconnect()
    },
  }
}

async function checkLedger(server: TestServer) {
  const { problems } = await server.context.database.read(verifyLedger)
  if (problems.length > 0) throw new Error(`the ledger does not add up: ${problems.join('; ')}`)
}
