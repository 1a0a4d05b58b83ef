import { setTimeout as sleep } from 'node:timers/promises'
import type { Page } from 'playwright-core'
import { type Network, startNetwork } from '../dev/network.ts'
import { logInAs, openBrowser, openWindow, settled } from './browser.ts'
import { firstLoadOf } from './first-load.ts'
import { liveFigures } from './web-live-figures.ts'

// Figures of the built web app on this machine, read from Chromium itself:
//
//   npx tsx e2e/web-figures.ts [SECONDS OF 200 LIVE UPDATES EACH: 300 unless given; 0: none]

/** Kept by the page from its first moment. */
const observers = `
  globalThis.seen = { paintMs: 0, shift: 0, longestTaskMs: 0, longTasks: 0, interactionMs: 0 }
  const observe = (type, look, more) => new PerformanceObserver((list) => list.getEntries().forEach(look)).observe({ type, buffered: true, ...more })
  observe('largest-contentful-paint', (entry) => (seen.paintMs = Math.max(seen.paintMs, entry.startTime)))
  observe('layout-shift', (entry) => { if (!entry.hadRecentInput) seen.shift += entry.value })
  observe('longtask', (entry) => { seen.longTasks++; seen.longestTaskMs = Math.max(seen.longestTaskMs, entry.duration) })
  observe('event', (entry) => { if (entry.interactionId) seen.interactionMs = Math.max(seen.interactionMs, entry.duration) }, { durationThreshold: 16 })`

const seconds = Number(process.argv[2] ?? 300)
const network = await startNetwork({ machines: ['RTX 4090:24'] })
await network.gpusAvailable(1)
const browser = await openBrowser()
try {
  for (const path of ['/', '/market']) await paint(path)
  await fill(network)
  await smooth('1,000 GPUs', '/market', null)
  await smooth('1,000 tasks', '/tasks', 'alice')
  await liveFigures({ network, open: (path) => open(path, 'alice'), say, seconds })
} finally {
  await browser.close()
  await network.close()
}

type Seen = { paintMs: number; shift: number; longestTaskMs: number; interactionMs: number }

async function open(path: string, person: 'alice' | null): Promise<Page> {
  const { page } = await openWindow(browser, network.url)
  await page.addInitScript(observers)
  if (person !== null) await logInAs(page, network[person])
  await page.goto(path)
  await settled(page)
  return page
}

async function paint(path: string) {
  const { bytes } = await firstLoadOf(browser, { url: network.url, path })
  const page = await open(path, null)
  await page.getByRole('button', { name: /theme/ }).click()
  await sleep(300)
  const { paintMs, shift, interactionMs } = await page.evaluate<Seen>('seen')
  say(
    `${path}: ${(bytes / 1_000).toFixed(1)} KB of JavaScript (gzip), largest paint ${Math.round(paintMs)} ms, layout shift ${shift.toFixed(4)}, slowest interaction ${interactionMs} ms`,
  )
  await page.context().close()
}

async function fill({ alice, bob }: Network) {
  for (let made = 0; made < 990; made += 30)
    await Promise.all(
      Array.from({ length: 30 }, (_, at) =>
        bob.client.gpus.create({
          name: `GPU ${made + at}`,
          model: `Model ${(made + at) % 12}`,
          vram_gb: 8 + ((made + at) % 10) * 8,
          price_per_hour: (0.1 + ((made + at) % 90) / 40).toFixed(2),
        }),
      ),
    )
  const task = { task_type: 'other' as const, input_data: {}, wait: true, max_price_per_hour: '0.1', max_cost: '0.01' }
  await alice.client.tasks.createBatch({
    tasks: Array.from({ length: 1_000 }, () => ({ ...task, requirements: { min_vram_gb: 900 } })),
  })
}

async function smooth(what: string, path: string, person: 'alice' | null) {
  const page = await open(path, person)
  const rows = page.locator('main li')
  for (let tries = 0; tries < 60 && (await rows.count()) < 1_000; tries++) {
    await page.mouse.wheel(0, 20_000)
    await sleep(100)
  }
  const loading = await page.evaluate<Seen>('seen')
  await page.evaluate('seen.longestTaskMs = 0')
  for (let wheel = 0; wheel < 40; wheel++) {
    await page.mouse.wheel(0, wheel % 2 ? -4_000 : 6_000)
    await sleep(50)
  }
  const { longestTaskMs } = await page.evaluate<Seen>('seen')
  say(
    `${what}: ${await rows.count()} rows, longest task ${taskOf(loading.longestTaskMs)} while loading, ${taskOf(longestTaskMs)} while scrolling`,
  )
  await page.context().close()
}

/** Chromium tells of tasks from 50 ms on. */
function taskOf(ms: number): string {
  return ms === 0 ? 'below 50 ms' : `${Math.round(ms)} ms`
}

function say(line: string) {
  process.stdout.write(`${line}\n`)
}
