import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/** A network between somebody and the market that can be made as bad as networks are. */
export type Proxy = {
  readonly port: number
  /** All connections break, and both sides hear of it. */
  cut(): void
  /** Nothing arrives any more, in either direction, until `heal`. */
  stall(): void
  /** All connections break, and only the other side than `side` hears of it: `side` speaks to nobody. */
  halfOpen(side: 'client' | 'market'): void
  /** New connections are refused until `heal`, and those that there are break. */
  refuse(): void
  /** From now on it is a good network again. What broke stays broken. */
  heal(): void
  close(): Promise<void>
}

type Pair = { readonly client: Socket; readonly market: Socket; state: 'whole' | 'half' }

export async function startProxy(marketPort: number): Promise<Proxy> {
  const pairs = new Set<Pair>()
  let refusing = false
  let stalled = false

  const server = createServer((client) => {
    client.on('error', () => {})
    if (refusing) return void client.resetAndDestroy()
    const market = connect(marketPort, '127.0.0.1')
    market.on('error', () => {})
    const pair: Pair = { client, market, state: 'whole' }
    pairs.add(pair)
    for (const [own, other] of [
      [client, market],
      [market, client],
    ] as const)
      own.on('close', () => {
        pairs.delete(pair)
        if (pair.state === 'whole') other.destroy()
      })
    if (!stalled) flow(pair)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }

  const whole = () => [...pairs].filter(({ state }) => state === 'whole')
  function cut() {
    for (const { client, market } of pairs) for (const socket of [client, market]) socket.resetAndDestroy()
  }
  return {
    port,
    cut,
    stall() {
      stalled = true
      for (const pair of whole()) hold(pair)
    },
    halfOpen(side) {
      for (const pair of whole()) {
        hold(pair)
        pair.state = 'half'
        // What it still says is read and lost.
        pair[side].resume()
        pair[side === 'client' ? 'market' : 'client'].resetAndDestroy()
      }
    },
    refuse() {
      refusing = true
      cut()
    },
    heal() {
      refusing = false
      if (stalled) for (const pair of whole()) flow(pair)
      stalled = false
    },
    async close() {
      const closed = once(server, 'close')
      server.close()
      cut()
      await closed
    },
  }
}

function flow({ client, market }: Pair) {
  client.pipe(market)
  market.pipe(client)
}

function hold({ client, market }: Pair) {
  client.unpipe(market).pause()
  market.unpipe(client).pause()
}
