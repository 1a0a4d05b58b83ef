import type { Network, Person } from '../dev/network.ts'

/** Every page of the web app, as somebody who has used it for a while sees it. */
export type Place = { name: string; path: string; of: Visitor }
export const visitors = ['everybody', 'renter', 'provider', 'newcomer'] as const
type Visitor = (typeof visitors)[number]

/** Who that is; null: nobody who is logged in. A newcomer has an account and nothing else. */
export function personOf(visitor: Visitor, { alice, bob, carol }: Network): Person | null {
  return { everybody: null, renter: alice, provider: bob, newcomer: carol }[visitor]
}

/** Sends a few tasks of every kind and outcome, and says where things are. */
export async function fillMarket({ alice, bob, gpusAvailable }: Network, gpus: number): Promise<Place[]> {
  await gpusAvailable(gpus)
  const run = async (input: Parameters<typeof alice.client.tasks.create>[0]) =>
    (await alice.client.tasks.create(input)).id
  const text = await run({
    task_type: 'text_generation',
    title: 'The first chapter',
    input_data: { prompt: 'Once upon a time', seed: 1 },
  })
  const image = await run({
    task_type: 'image_generation',
    input_data: { prompt: 'a red circle on a blue background', count: 2, seed: 4 },
  })
  const failed = await run({
    task_type: 'other',
    title: 'A training run',
    input_data: { fail: 'renter_error', sleep_ms: 50 },
  })
  const vectors = await run({
    task_type: 'embedding',
    title: 'Sentences to compare',
    input_data: { input: ['a GPU that idles', 'a graphics card at rest', 'bread and butter'] },
  })
  const review = await run({
    task_type: 'text_generation',
    title: 'To be looked at first',
    input_data: { prompt: 'The sea', seed: 3 },
    auto_pay: false,
  })
  for (const id of [text, image, failed, vectors, review])
    for (;;) {
      const { completed_at } = await alice.client.tasks.get({ task_id: id })
      if (completed_at !== null) break
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  const running = await run({
    task_type: 'other',
    title: 'Epoch after epoch',
    input_data: { sleep_ms: 600_000, output: 'loss goes down, slowly. '.repeat(40), chunks: 400 },
  })
  const waiting = await run({
    task_type: 'other',
    title: 'Waits for a large GPU',
    input_data: {},
    requirements: { min_vram_gb: 900 },
    wait: true,
    max_price_per_hour: '2',
  })
  const { items: own } = await bob.client.gpus.mine()
  return placesOf({ gpu: own[0]!.id, text, image, failed, vectors, review, running, waiting })
}

type Things = Record<'gpu' | 'text' | 'image' | 'failed' | 'vectors' | 'review' | 'running' | 'waiting', string>

function placesOf({ gpu, text, image, failed, vectors, review, running, waiting }: Things): Place[] {
  return [
    { name: 'landing', path: '/', of: 'everybody' },
    { name: 'market', path: '/market', of: 'everybody' },
    { name: 'market-nothing', path: '/market?model=nothing', of: 'everybody' },
    { name: 'gpu', path: `/market/${gpu}`, of: 'everybody' },
    { name: 'login', path: '/login', of: 'everybody' },
    { name: 'register', path: '/register', of: 'everybody' },
    { name: 'components', path: '/dev/ui', of: 'everybody' },
    { name: 'not-found', path: '/nowhere', of: 'everybody' },
    { name: 'tasks', path: '/tasks', of: 'renter' },
    { name: 'images', path: '/images', of: 'renter' },
    { name: 'new-task', path: '/tasks/new', of: 'renter' },
    { name: 'task-text', path: `/tasks/${text}`, of: 'renter' },
    { name: 'task-image', path: `/tasks/${image}`, of: 'renter' },
    { name: 'task-failed', path: `/tasks/${failed}`, of: 'renter' },
    { name: 'task-vectors', path: `/tasks/${vectors}`, of: 'renter' },
    { name: 'task-review', path: `/tasks/${review}`, of: 'renter' },
    { name: 'task-running', path: `/tasks/${running}`, of: 'renter' },
    { name: 'task-waiting', path: `/tasks/${waiting}`, of: 'renter' },
    { name: 'wallet', path: '/wallet', of: 'renter' },
    { name: 'payments', path: '/payments', of: 'renter' },
    { name: 'account', path: '/account', of: 'renter' },
    { name: 'sessions', path: '/account/sessions', of: 'renter' },
    { name: 'credentials', path: '/account/credentials', of: 'provider' },
    { name: 'my-gpus', path: '/gpus', of: 'provider' },
    { name: 'my-gpu', path: `/gpus/${gpu}`, of: 'provider' },
    { name: 'add-machine', path: '/gpus/add', of: 'provider' },
    { name: 'earnings', path: '/earnings', of: 'provider' },
    { name: 'payments-received', path: '/payments?side=received', of: 'provider' },
    { name: 'tasks-empty', path: '/tasks', of: 'newcomer' },
    { name: 'images-empty', path: '/images', of: 'newcomer' },
    { name: 'my-gpus-empty', path: '/gpus', of: 'newcomer' },
    { name: 'wallet-empty', path: '/wallet', of: 'newcomer' },
    { name: 'payments-empty', path: '/payments', of: 'newcomer' },
    { name: 'earnings-empty', path: '/earnings', of: 'newcomer' },
  ]
}
