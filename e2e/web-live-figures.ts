import { setTimeout as sleep } from 'node:timers/promises'
import type { CDPSession, Page } from 'playwright-core'
import { connectAgent, deviceWire, newMachine } from '@orbyte/server/agents/fixture-agent.ts'
import type { Network } from '../dev/network.ts'

const updatesPerSecond = 200

type Seen = { longestTaskMs: number; longTasks: number }
type Drawn = { updates: number; missed: number; draws: number; ages: number[] }
type Options = { network: Network; open(path: string): Promise<Page>; say(line: string): void; seconds: number }
type Writer = { write(): void; sent(): number; characters(): number; allStored(): Promise<void> }

/**
 * The live path, from a machine whose side of the socket is spoken here to the page of the task that it runs: how old an update
 * is when it is drawn, and what many of them for long do to the page. Each update is its number and when it was sent.
 */
export async function liveFigures({ network, open, say, seconds }: Options) {
  const { alice, bob, url } = network
  const { token } = await bob.client.agentTokens.create({ name: 'figures' })
  const devices = [deviceWire({ uuid: 'GPU-figures', vram_mib: 1_000 * 1_024 })]
  const machine = await connectAgent(url, newMachine(token), { devices })
  const task = await alice.client.tasks.create({
    task_type: 'other',
    input_data: {},
    requirements: { gpu_id: machine.gpuId },
    max_price_per_hour: '9',
  })
  const start = await machine.begin()
  const page = await open(`/tasks/${task.id}`)
  await page.evaluate(countUpdates)
  const writer = createWriter((offset, text) => machine.output(start, offset, text))

  for (let count = 0; count < 200; count++) {
    writer.write()
    await sleep(40)
  }
  const { ages } = await drawn(page)
  const sorted = ages.sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.floor(sorted.length * share)]
  say(`agent to DOM, ${sorted.length} updates at 25 a second: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`)

  if (seconds > 0) await manyUpdates({ page, writer, say, seconds })
  await writer.allStored()
  const stored = (await alice.client.tasks.output({ task_id: task.id })).length
  say(`stored by the market: ${stored} of ${writer.characters()} characters`)
  await machine.disconnect()
}

function createWriter(output: (offset: number, text: string) => Promise<void>): Writer {
  let [sent, offset] = [0, 0]
  let last: Promise<void> = Promise.resolve()
  return {
    write() {
      const text = `${sent++}:${Date.now()};`
      last = output(offset, text)
      offset += text.length
    },
    sent: () => sent,
    characters: () => offset,
    allStored: () => last,
  }
}

async function manyUpdates({
  page,
  writer,
  say,
  seconds,
}: Pick<Options, 'say' | 'seconds'> & { page: Page; writer: Writer }) {
  const session = await page.context().newCDPSession(page)
  const rssBefore = process.memoryUsage().rss
  const heapsMb = [await heapMb(session)]
  await page.evaluate('Object.assign(seen, { longestTaskMs: 0, longTasks: 0 })')
  const [before, startMs] = [writer.sent(), performance.now()]
  let longest = 0
  let longTasks = 0
  for (let minute = 1; minute * 60 < seconds + 60; minute++) {
    const until = Math.min(minute * 60, seconds)
    for (let now = 0; now < until; now = (performance.now() - startMs) / 1_000) {
      while (writer.sent() - before < now * updatesPerSecond) writer.write()
      await sleep(5)
    }
    const seen = await page.evaluate<Seen>('seen')
    longest = Math.max(longest, seen.longestTaskMs)
    longTasks += seen.longTasks
    heapsMb.push(await heapMb(session))
    // A collection that was asked for is no task of the page's.
    await sleep(100)
    await page.evaluate('Object.assign(seen, { longestTaskMs: 0, longTasks: 0 })')
  }
  const tookS = (performance.now() - startMs) / 1_000
  const updates = writer.sent() - before
  let { updates: arrived, missed, draws } = await drawn(page)
  for (let tries = 0; tries < 100 && arrived < writer.sent(); tries++) {
    await sleep(100)
    ;({ updates: arrived, missed, draws } = await drawn(page))
  }
  const shown = await page.evaluate<number>('document.querySelector("[data-testid=output]").textContent.length')
  say(
    `${Math.round(updates / tookS)} updates a second for ${Math.round(tookS)} s, ${updates} in all: ` +
      `heap ${heapsMb.map((mb) => mb.toFixed(1)).join(' → ')} MB (at the start, then every minute, collected), ` +
      `longest task ${longest === 0 ? 'below 50' : Math.round(longest)} ms, ${longTasks} above 50 ms`,
  )
  say(
    `reached the DOM: ${arrived} of ${writer.sent()}, ${missed} missing or out of order, in ${draws} draws; ` +
      `${shown} characters are shown; this process ${Math.round((process.memoryUsage().rss - rssBefore) / 1e6)} MB more`,
  )
}

const drawn = (page: Page) => page.evaluate<Drawn>('drawn')

async function heapMb(session: CDPSession): Promise<number> {
  await session.send('HeapProfiler.collectGarbage')
  return (await session.send('Runtime.getHeapUsage')).usedSize / 1e6
}

/** Runs in the page: reads of every change of the text what is new in its last pieces. */
const countUpdates = `
  globalThis.drawn = { updates: 0, missed: 0, draws: 0, ages: [] }
  const output = document.querySelector('[data-testid=output]')
  new MutationObserver(() => {
    drawn.draws++
    const tail = [...output.children].slice(-5).map((piece) => piece.textContent).join('')
    for (const [, number, sentMs] of tail.matchAll(/(\\d+):(\\d+);/g)) {
      if (Number(number) < drawn.updates + drawn.missed) continue
      drawn.missed += Number(number) - drawn.updates - drawn.missed
      drawn.updates++
      if (drawn.ages.length < 1_000) drawn.ages.push(Date.now() - Number(sentMs))
    }
  }).observe(output, { childList: true, characterData: true, subtree: true })`
