import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Client } from '@orbyte/sdk'
import { until } from '../dev/network.ts'
import { chromiumPath, logInAs, needsChromium, openBrowser, openWindow, type Window } from './browser.ts'
import { freePort, killAll, newUser, orbyte, type Process, startMarket } from './processes.ts'

// What people do in a browser, from the first page to the receipt: with a market, agents and models as processes of their own.

const password = 'a password for tests'
let browser: Browser
let folder: string
let port: number
let url: string
let market: Process
let windows: Window[]

async function visit(name?: string): Promise<Page> {
  const opened = await openWindow(browser, url)
  windows.push(opened)
  if (name !== undefined) await logInAs(opened.page, { email: `${name}@example.org`, password })
  return opened.page
}

/** A machine of the provider's, with one emulated GPU and the real models. */
async function startAgent(provider: Client, name: string): Promise<Process> {
  const { token } = await provider.agentTokens.create({ name })
  return startAgentWith(token, name)
}

async function startAgentWith(token: string, name: string): Promise<Process> {
  const flags = { server: url, token, data: join(folder, name), emulate: 'RTX 4090:24', name }
  const written = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])
  return orbyte(['agent', 'start', ...written, '--allow-fake'], { cwd: folder })
}

const isAvailable = (client: Client, count: number) => async () =>
  (await client.gpus.list({ available: true })).items.length >= count

async function submitText(page: Page, prompt: string) {
  await page.goto('/tasks/new')
  await page.getByLabel('Prompt').fill(prompt)
  await page.getByText('free now, of').waitFor()
  await page.getByRole('button', { name: 'Send the task' }).click()
  await page.waitForURL(/\/tasks\/task_/)
}
const statusIs = (page: Page, status: string) => page.getByTestId('status').getByText(status, { exact: true }).waitFor()
const idOf = (page: Page) => page.url().split('/').at(-1)!

describe.skipIf(chromiumPath === null)(`in a browser${chromiumPath === null ? `: ${needsChromium}` : ''}`, () => {
  beforeAll(async () => {
    browser = await openBrowser()
  })
  beforeEach(async () => {
    windows = []
    folder = await mkdtemp(join(tmpdir(), 'orbyte-web-'))
    port = await freePort()
    url = `http://127.0.0.1:${port}`
    market = await startMarket({ folder, port })
  })
  afterEach(async () => {
    for (const { context } of windows) await context.close()
    await killAll()
    await rm(folder, { recursive: true, force: true })
  })
  afterAll(() => browser.close())

  test('from an account to a receipt: a GPU is offered, a task runs on it, streams, and is paid', async () => {
    const provider = await visit()
    await provider.goto('/')
    await provider.getByRole('link', { name: 'Offer a GPU' }).click()
    await provider.getByLabel('Email address').fill('bob@example.org')
    await provider.getByLabel('Password').fill(password)
    await provider.getByRole('button', { name: 'Open the account' }).click()
    await provider.waitForURL('**/gpus/add')
    await provider.getByLabel('Name of the machine').fill('gaming PC')
    await provider.getByRole('button', { name: 'Make its token' }).click()
    const command = await provider.getByLabel('Command that starts the agent').innerText()
    await startAgentWith(/--token (\S+)/.exec(command)![1]!, 'agent-1')
    await provider.getByText('Your GPU is here').waitFor({ timeout: 60_000 })

    const renter = await visit()
    await renter.goto('/register')
    await renter.getByLabel('Email address').fill('alice@example.org')
    await renter.getByLabel('Password').fill(password)
    await renter.getByRole('button', { name: 'Open the account' }).click()
    await renter.waitForURL('**/tasks')
    await renter.goto('/wallet')
    await renter.getByRole('button', { name: 'Get from the faucet' }).click()
    await renter.getByTestId('balance').getByText('100.00').waitFor()
    await submitText(renter, 'Once upon a time')
    await statusIs(renter, 'Completed')
    expect((await renter.getByTestId('output').innerText()).length).toBeGreaterThan(20)
    await renter.getByRole('button', { name: 'Verify the receipt' }).click()
    await renter.getByText('The receipt holds').waitFor()

    await provider.goto('/earnings')
    const earned = await provider.getByTestId('earned').innerText()
    expect(Number.parseFloat(earned)).toBeGreaterThan(0)
    expect(windows.flatMap(({ faults }) => faults)).toEqual([])
  })

  test('text appears while it is made, an image when it is there, and a cancelled task says who stopped it', async () => {
    const bob = await newUser(url, 'bob')
    const alice = await newUser(url, 'alice')
    await alice.wallet.deposit({ amount: '100' })
    await startAgent(bob, 'agent-1')
    await until(isAvailable(alice, 1), 'the GPU')
    const page = await visit('alice')
    const slow = await alice.tasks.create({
      task_type: 'other',
      input_data: { sleep_ms: 120_000, output: 'word '.repeat(400), chunks: 400 },
    })
    await page.goto(`/tasks/${slow.id}`)
    const output = page.getByTestId('output')
    await expect.poll(async () => (await output.innerText()).length, { timeout: 30_000 }).toBeGreaterThan(10)
    const before = (await output.innerText()).length
    await expect.poll(async () => (await output.innerText()).length, { timeout: 30_000 }).toBeGreaterThan(before)
    const cost = await page.getByTestId('cost').innerText()
    await expect.poll(() => page.getByTestId('cost').innerText()).not.toBe(cost)
    await page.getByRole('button', { name: 'Cancel', exact: true }).click()
    await page.getByRole('button', { name: 'Cancel the task' }).click()
    await statusIs(page, 'Cancelled')
    await page.getByText('Decided by the renter').waitFor()

    await page.goto('/tasks/new?task_type=image_generation')
    await page.getByLabel('Prompt').fill('a red circle')
    await page.getByRole('button', { name: 'Send the task' }).click()
    await page.waitForURL(/\/tasks\/task_/)
    await page.getByRole('img', { name: /a red circle/ }).waitFor({ timeout: 90_000 })
    await statusIs(page, 'Completed')

    await page.getByRole('link', { name: 'Tasks' }).first().click()
    await page.getByRole('link', { name: 'Images', exact: true }).click()
    await page.getByRole('img', { name: /^a red circle/ }).waitFor()
    const saved = page.waitForEvent('download')
    await page.getByRole('link', { name: /^Download a red circle/ }).click()
    expect((await saved).suggestedFilename()).toMatch(/^task_.+\.png$/)
    await page.getByRole('link', { name: 'a red circle', exact: true }).click()
    await statusIs(page, 'Completed')
    expect(windows.flatMap(({ faults }) => faults)).toEqual([])
  })

  test('whoever has no money is told before they send, and where to get some', async () => {
    const bob = await newUser(url, 'bob')
    await newUser(url, 'alice')
    await startAgent(bob, 'agent-1')
    await until(isAvailable(bob, 1), 'the GPU')
    const page = await visit('alice')
    await page.goto('/tasks/new')
    await page.getByLabel('Prompt').fill('Once')
    await page.getByText('Get more from the faucet').waitFor()
    expect(await page.getByRole('button', { name: 'Send the task' }).getAttribute('aria-disabled')).toBe('true')
    await page.getByText('Get more from the faucet').click()
    await page.getByRole('button', { name: 'Get from the faucet' }).click()
    await page.getByTestId('balance').getByText('100.00').waitFor()
  })

  test('a page goes on by itself when the agent dies, and when the market is restarted', async () => {
    const bob = await newUser(url, 'bob')
    const alice = await newUser(url, 'alice')
    await alice.wallet.deposit({ amount: '100' })
    const agents = { 'agent-1': await startAgent(bob, 'agent-1'), 'agent-2': await startAgent(bob, 'agent-2') }
    await until(isAvailable(alice, 2), 'the GPUs')
    const page = await visit('alice')
    const task = await alice.tasks.create({
      task_type: 'other',
      input_data: { sleep_ms: 6_000, output: 'word '.repeat(60), chunks: 60 },
    })
    await page.goto(`/tasks/${task.id}`)
    await page.getByTestId('output').getByText('word').first().waitFor()
    const { attempts } = await alice.tasks.get({ task_id: task.id })
    const name = attempts[0]!.gpu_name as keyof typeof agents
    await agents[name].kill('SIGKILL')
    agents[name] = await startAgentWith('', name)
    await page.getByText('not charged').waitFor({ timeout: 60_000 })
    await market.kill('SIGKILL')
    await page.getByText('The market does not answer').waitFor({ timeout: 60_000 })
    market = await startMarket({ folder, port })
    await page.getByText('The market does not answer').waitFor({ state: 'detached', timeout: 60_000 })
    await statusIs(page, 'Completed')
    expect(idOf(page)).toBe(task.id)
  })
})
