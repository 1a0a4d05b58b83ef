import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { AxeResults } from 'axe-core'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Network, startNetwork } from '../dev/network.ts'
import { chromiumPath, logInAs, type Look, needsChromium, openBrowser, openWindow, settled } from './browser.ts'
import { firstLoadOf } from './first-load.ts'
import { fillMarket, personOf, type Place, visitors } from './web-places.ts'

// Every page, in both themes, on a desktop and on a phone; with a keyboard alone; and how much of it a browser has to load.

let browser: Browser
let network: Network
let places: Place[]

/** All four with WEB_LOOKS=all; without it the two that have nothing in common. */
const looks: (Look & { name: string })[] = [
  { name: 'a light desktop', theme: 'light' },
  { name: 'a dark phone', theme: 'dark', isPhone: true },
]
if (process.env['WEB_LOOKS'] === 'all')
  looks.push({ name: 'a dark desktop', theme: 'dark' }, { name: 'a light phone', theme: 'light', isPhone: true })

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

/** The page's content security policy lets no script in but its own: axe is let in from outside. */
async function violationsOf(page: Page): Promise<string[]> {
  await page.evaluate(axe)
  const results = await page.evaluate<AxeResults>(`axe.run(document, { runOnly: ${JSON.stringify(rules)} })`)
  return results.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`)
}

async function faultsOf(page: Page): Promise<string[]> {
  const over = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')
  return [...(await violationsOf(page)), ...(over > 0 ? [`${over} px too wide`] : [])]
}

async function eachPlace(look: Look, inspect: (page: Page) => Promise<string[]>): Promise<string[]> {
  const found: string[] = []
  for (const visitor of visitors) {
    const { page, context, faults } = await openWindow(browser, network.url, look)
    const person = personOf(visitor, network)
    if (person) await logInAs(page, person)
    for (const place of places.filter(({ of }) => of === visitor)) {
      await page.goto(place.path)
      await settled(page)
      for (const line of await inspect(page)) found.push(`${place.name}: ${line}`)
    }
    // A page that is not there says so, in the console too.
    found.push(...faults.filter((fault) => !fault.includes('/nowhere')))
    await context.close()
  }
  return found
}

describe.skipIf(chromiumPath === null)(`in a browser${chromiumPath === null ? `: ${needsChromium}` : ''}`, () => {
  beforeAll(async () => {
    network = await startNetwork({ machines: ['RTX 4090:24x2', 'H100:80'] })
    browser = await openBrowser()
    places = await fillMarket(network, 3)
  })
  afterAll(async () => {
    await browser.close()
    await network.close()
  })

  test.for(looks)('axe finds nothing wrong on any page, and none is too wide, on $name', async (look) => {
    expect(await eachPlace(look, faultsOf)).toEqual([])
  })

  test('the public pages load at most 150 KB of JavaScript, and nothing from elsewhere', async () => {
    for (const path of ['/', '/market']) {
      const { bytes, foreign } = await firstLoadOf(browser, { url: network.url, path })
      expect(bytes).toBeLessThan(150_000)
      expect(foreign).toEqual([])
    }
  })

  test('with a keyboard alone: log in, write a task, send it, and cancel it', async () => {
    const { page, context } = await openWindow(browser, network.url)
    await page.goto('/login')
    await page.getByLabel('Email address').waitFor()
    await page.keyboard.press('Tab')
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the content')
    await tabTo(page, 'Email address')
    await page.keyboard.type(network.alice.email)
    await page.keyboard.press('Tab')
    await page.keyboard.type(network.alice.password)
    await page.keyboard.press('Enter')
    await page.waitForURL('**/tasks')
    await page.getByRole('link', { name: 'New task' }).first().waitFor()
    await tabTo(page, 'New task')
    await page.keyboard.press('Enter')
    await page.getByLabel('Prompt').waitFor()
    await tabTo(page, 'Other', 'Text')
    for (let presses = 0; presses < 5; presses++) await page.keyboard.press('ArrowRight')
    await tabTo(page, 'Input')
    await page.keyboard.press('Control+A')
    await page.keyboard.type('{"sleep_ms": 120000}')
    await page.getByText('free now, of').waitFor()
    await tabTo(page, 'Send the task')
    await page.keyboard.press('Enter')
    await page.waitForURL(/\/tasks\/task_/)
    await page.getByRole('button', { name: 'Cancel', exact: true }).waitFor()
    await tabTo(page, 'Cancel')
    await page.keyboard.press('Enter')
    await page.getByRole('alertdialog').waitFor()
    await tabTo(page, 'Cancel the task')
    await page.keyboard.press('Enter')
    await page.getByTestId('status').getByText('Cancelled').waitFor()
    await context.close()
  })

  test('a page that is reloaded, and a second tab, are still logged in; one that logs out is not', async () => {
    const { page, context } = await openWindow(browser, network.url)
    await logInAs(page, network.alice)
    await page.reload()
    await page.reload()
    await page.getByRole('heading', { name: 'Tasks' }).waitFor()
    const second = await context.newPage()
    await second.goto('/wallet')
    await second.getByTestId('balance').waitFor()
    await second.getByRole('button', { name: /Account of/ }).click()
    await second.getByRole('menuitem', { name: 'Log out' }).click()
    await second.waitForURL((url) => url.pathname === '/')
    await page.waitForURL('**/login**')
    await context.close()
  })
})

/** Of what has the focus: its label, or what it says. */
const focusedName = `(({ labels, ariaLabel, textContent }) =>
  (labels?.[0]?.textContent ?? ariaLabel ?? textContent).trim())(document.activeElement)`

/** Presses Tab until the control with this name has the focus. */
async function tabTo(page: Page, ...names: string[]) {
  for (let presses = 0; presses < 80; presses++) {
    await page.keyboard.press('Tab')
    const name = await page.evaluate<string>(focusedName)
    if (names.includes(name)) return
  }
  throw new Error(`Tab does not lead to ${names.join(' or ')}`)
}
