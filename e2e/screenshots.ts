import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { startNetwork } from '../dev/network.ts'
import { type Look, logInAs, openBrowser, openWindow, settled } from './browser.ts'
import { fillMarket, personOf, type Place, visitors } from './web-places.ts'

// A picture of every page of the built web app, in both themes, on a desktop and on a phone:
//
//   npx tsx e2e/screenshots.ts FOLDER [NAME…]

const [folder = 'screenshots', ...names] = process.argv.slice(2)
const machines = ['RTX 4090:24x2', 'H100:80', 'RTX 3060:12', 'L40S:48']
const network = await startNetwork({ machines })
const places = await fillMarket(network, 5)
const browser = await openBrowser()
await mkdir(folder, { recursive: true })
for (const theme of ['light', 'dark'] as const)
  for (const isPhone of [false, true]) {
    for (const visitor of visitors) await picture({ theme, isPhone }, visitor)
  }
await browser.close()
await network.close()

async function picture(look: Look, of: Place['of']) {
  const wanted = places.filter((place) => place.of === of && (names.length === 0 || names.includes(place.name)))
  if (wanted.length === 0) return
  const { page, context, faults } = await openWindow(browser, network.url, look)
  const person = personOf(of, network)
  if (person) await logInAs(page, person)
  for (const { name, path } of wanted) {
    await page.goto(path)
    await settled(page)
    const file = `${name}-${look.theme}-${look.isPhone ? 'phone' : 'desktop'}.png`
    // A window as high as the page: what is laid out only in view is in it, and what sticks to the window is at its edge.
    const window = page.viewportSize()!
    const height = await page.evaluate<number>('document.documentElement.scrollHeight')
    await page.setViewportSize({ ...window, height: Math.max(window.height, height) })
    await settled(page)
    await page.screenshot({ path: join(folder, file) })
    await page.setViewportSize(window)
    process.stdout.write(`${file}\n`)
  }
  for (const fault of faults) console.error(fault)
  await context.close()
}
