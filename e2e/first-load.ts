import { gzipSync } from 'node:zlib'
import type { Browser } from 'playwright-core'
import { openWindow, settled } from './browser.ts'

/** How much JavaScript a first visit to a page loads, compressed, and what it asks of anybody else. */
export async function firstLoadOf(browser: Browser, { url, path }: { url: string; path: string }) {
  const { page, context } = await openWindow(browser, url)
  const foreign: string[] = []
  const scripts: string[] = []
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) foreign.push(request.url())
  })
  page.on('response', (response) => {
    if (response.url().endsWith('.js')) scripts.push(response.url())
  })
  await page.goto(path)
  await settled(page)
  await context.close()
  const sizes = await Promise.all(scripts.map(gzipSize))
  return { bytes: sizes.reduce((sum, size) => sum + size, 0), foreign }
}

async function gzipSize(url: string): Promise<number> {
  const response = await fetch(url)
  return gzipSync(Buffer.from(await response.arrayBuffer())).length
}
