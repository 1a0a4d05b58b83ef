import { existsSync } from 'node:fs'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

/** Debian's Chromium, or another one that CHROMIUM_PATH names. Null: there is none, and what needs one is skipped. */
export const chromiumPath =
  [process.env['CHROMIUM_PATH'], '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
    (path) => path !== undefined && existsSync(path),
  ) ?? null

export const needsChromium = 'needs Chromium: install it (on Debian: apt-get install chromium), or set CHROMIUM_PATH'

/** No network but the market: Chromium's own services are off. */
const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export function openBrowser(): Promise<Browser> {
  if (chromiumPath === null) throw new Error(needsChromium)
  return chromium.launch({ executablePath: chromiumPath, args: flags })
}

export type Look = { theme?: 'light' | 'dark'; isPhone?: boolean }
export const desktop = { width: 1280, height: 860 }
export const phone = { width: 390, height: 844 }

/** A window of its own, as a first visit; `faults` gathers what its pages complain of. */
export async function openWindow(browser: Browser, url: string, { theme = 'light', isPhone = false }: Look = {}) {
  const context = await browser.newContext({
    baseURL: url,
    viewport: isPhone ? phone : desktop,
    isMobile: isPhone,
    hasTouch: isPhone,
    colorScheme: theme,
    locale: 'en-GB',
    timezoneId: 'Europe/Berlin',
    reducedMotion: 'reduce',
  })
  context.setDefaultTimeout(20_000)
  const faults: string[] = []
  const page = await context.newPage()
  page.on('pageerror', (error) => faults.push(`${page.url()}: ${error.message}`))
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`${page.url()}: ${message.text()}`)
  })
  return { context, page, faults }
}
export type Window = { context: BrowserContext; page: Page; faults: string[] }

export async function logInAs(page: Page, { email, password }: { email: string; password: string }) {
  await page.goto('/login')
  await page.getByLabel('Email address').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.waitForURL('**/tasks')
}

/** Nothing on the page is still being loaded. */
export async function settled(page: Page) {
  await page.locator('h1').first().waitFor()
  await page.waitForLoadState('networkidle')
  await page.getByText('Loading', { exact: true }).first().waitFor({ state: 'detached' })
}
