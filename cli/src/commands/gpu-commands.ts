import { type api, type InputOf, oneLine, type OutputOf, percentOf, wholeMilli } from '@orbyte/protocol'
import { type Command, Option } from 'commander'
import { amount, decimal, examples, fieldsOf, onOff, pageOptions, type PageOptions } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { CliError, exitCodes } from '../exit-codes.ts'
import { count, duration, hardware, localTime, perHour, usableText } from '../format.ts'
import { fetchItems } from '../lists.ts'
import { type Column, details } from '../table.ts'

type Gpu = OutputOf<typeof api.gpus.get>
type Attempt = OutputOf<typeof api.gpus.attempts>['items'][number]
type Explanation = OutputOf<typeof api.gpus.explain>
type Filters = Omit<InputOf<typeof api.gpus.list>, 'cursor' | 'limit'>

export function addGpuCommands(program: Command, cli: Cli) {
  const gpus = program
    .command('gpus')
    .summary('the GPUs of the market, and yours')
    .description('The GPUs of the market, and yours.')
  examples(gpus, [
    'gpus list --available --min-vram 24',
    'gpus mine',
    'gpus explain gpu_01k…',
    'gpus set gpu_01k… --price 0.35',
    'gpus set gpu_01k… --sharing on',
    'gpus maintenance gpu_01k… on',
    'gpus reclaim gpu_01k…',
  ])
  addMarketCommands(gpus, cli)
  addReasonCommands(gpus, cli)
  addOwnerCommands(gpus, cli)
  addAvailabilityCommands(gpus, cli)
  addChecks(gpus, cli)
}

function addMarketCommands(gpus: Command, cli: Cli) {
  pageOptions(gpus.command('list', { isDefault: true }))
    .summary('the GPUs of the market')
    .option('--model <text>', 'part of the hardware’s name')
    .addOption(new Option('--min-vram <gb>', 'sold with so many GB at least').argParser(decimal))
    .addOption(new Option('--max-price <orb>', 'at most so much an hour').argParser(amount))
    .addOption(new Option('--status <status>', 'by status').choices(['available', 'in_use', 'maintenance', 'offline']))
    .option('--region <region>', 'in this region')
    .option('--task-type <type>', 'that can run this type of task')
    .addOption(new Option('--kind <kind>', 'by kind').choices(['gpu', 'cpu', 'emulated']))
    .option('--available', 'that could take a task now')
    .addOption(
      new Option('--sort <by>', 'cheapest first by default').choices([
        'price',
        '-price',
        'vram',
        '-vram',
        'created',
        '-created',
      ]),
    )
    .action(async ({ limit, all, ...filters }: PageOptions & Record<string, unknown>) => {
      const page = await fetchItems(cli.client.gpus.list, fieldsOf(filters) as Filters, { limit, all })
      const isFiltered = Object.keys(filters).length > 0
      cli.showList(page, {
        columns: gpuColumns(cli),
        empty: isFiltered
          ? 'No GPU matches. Leave out a filter to see more: orbyte gpus list'
          : 'No GPU is registered yet. Offer this machine’s: orbyte agent start',
      })
    })

  gpus
    .command('show')
    .summary('everything about a GPU')
    .argument('<gpu_id>')
    .action(async (gpuId: string) => showGpu(cli, await cli.client.gpus.get({ gpu_id: gpuId })))

  gpus
    .command('speeds')
    .summary('how fast a GPU really is, by model, as measured on its tasks')
    .argument('<gpu_id>')
    .action(async (gpuId: string) =>
      cli.showList(await cli.client.gpus.speeds({ gpu_id: gpuId }), {
        empty: 'It has completed no task with a model of the catalogue yet.',
        columns: [
          { title: 'model', value: ({ model }) => model },
          { title: 'task type', value: ({ task_type }) => task_type },
          { title: 'speed', value: ({ per_second }) => per_second ?? 'too few tasks to say', right: true },
          { title: 'unit', value: ({ unit }) => `${unit}/s` },
          { title: 'tasks', value: ({ attempts }) => attempts, right: true },
          { title: 'ran', value: ({ run_ms }) => duration(run_ms), right: true },
        ],
      }),
    )

  gpus
    .command('prices')
    .summary('what a GPU has cost, newest first')
    .argument('<gpu_id>')
    .action(async (gpuId: string) =>
      cli.showList(await cli.client.gpus.prices({ gpu_id: gpuId }), {
        empty: 'Its price has never changed.',
        columns: [
          { title: 'since', value: ({ changed_at }) => localTime(changed_at) },
          { title: 'price/h', value: ({ price_per_hour }) => price_per_hour, right: true },
        ],
      }),
    )
}

function addReasonCommands(gpus: Command, cli: Cli) {
  gpus
    .command('explain')
    .summary('why a GPU of yours does or does not earn')
    .argument('<gpu_id>')
    .action(async (gpuId: string) => {
      const explained = await cli.client.gpus.explain({ gpu_id: gpuId })
      cli.show(explained, () => earningText(explained))
    })
  pageOptions(gpus.command('attempts'))
    .summary('what ran on a GPU of yours, newest first')
    .argument('<gpu_id>')
    .action(async (gpuId: string, options: PageOptions) =>
      cli.showList(await fetchItems(cli.client.gpus.attempts, { gpu_id: gpuId }, options), {
        empty: 'Nothing has run on it yet.',
        columns: [
          { title: 'attempt', value: ({ id }) => id },
          { title: 'status', value: ({ status }) => status },
          { title: 'has', value: (attempt) => hasOf(attempt, gpuId), right: true },
          { title: 'since', value: ({ offered_at }) => localTime(offered_at) },
          { title: 'ran', value: ({ run_ms }) => duration(run_ms), right: true },
          { title: 'cost', value: ({ cost }) => cost, right: true },
          { title: 'how it ended', value: ({ end }) => end && `${end.message} (${end.code})`, shrinks: true },
        ],
      }),
    )
}

function earningText({ message, considered, since, fitted, won, lost, price, ...rest }: Explanation): string {
  const facts = details([
    ['Tasks', since && `${considered} since ${localTime(since)}: ${fitted} would fit, it got ${won}`],
    ['Price', perHour(price.price_per_hour)],
    ['Market', price.gpus === 0 ? `nothing to compare with (${price.compared_with})` : marketText(price)],
    ['Others got', perHour(rest.others_price_per_hour)],
  ])
  const reasons = lost.map(({ tasks, message: reason }) => `  ${String(tasks).padStart(5)}  ${oneLine(reason)}`)
  return [message, '', facts, ...(reasons.length > 0 ? ['', 'What it did not get, and why:', ...reasons] : [])].join(
    '\n',
  )
}

function marketText({ gpus, cheaper, lowest, median, highest, compared_with }: Explanation['price']): string {
  const range = lowest === highest ? `${lowest}` : `${lowest} to ${highest}, the middle ${median}`
  return `${range} ORB/h for ${compared_with} (${count(gpus, 'GPU')}, ${cheaper} cheaper)`
}

type Changes = { price?: string; name?: string; region?: string; sharing?: boolean }

/** What an attempt has of this GPU, and how many others. */
function hasOf({ gpus }: Attempt, gpuId: string): string {
  const milli = gpus.find(({ gpu_id }) => gpu_id === gpuId)?.milli ?? wholeMilli
  if (gpus.length > 1) return `all, and ${count(gpus.length - 1, 'other')}`
  return milli === wholeMilli ? 'all' : percentOf(milli)
}

type NewGpuOptions = { name: string; model: string; vram: number; price: string; region?: string }

function addOwnerCommands(gpus: Command, cli: Cli) {
  pageOptions(gpus.command('mine'))
    .summary('your GPUs')
    .action(async (options: PageOptions) =>
      cli.showList(await fetchItems(cli.client.gpus.mine, {}, options), {
        columns: gpuColumns(cli),
        empty:
          'You have no GPUs here yet. On the machine that has one: orbyte tokens create NAME, then orbyte agent start --token TOKEN',
      }),
    )

  gpus
    .command('add')
    .summary('register a GPU by hand; it is offline until an agent of yours reports it')
    .requiredOption('--name <name>', 'what you call it')
    .requiredOption('--model <model>', 'the hardware, like "RTX 4090"')
    .requiredOption('--vram <gib>', 'its memory', decimal)
    .requiredOption('--price <orb>', 'what an hour costs', amount)
    .option('--region <region>')
    .action(async ({ vram, price, ...rest }: NewGpuOptions) =>
      showGpu(cli, await cli.client.gpus.create({ ...rest, vram_gb: vram, price_per_hour: price })),
    )

  gpus
    .command('set')
    .summary('change the price, name or region of your GPU, or whether tasks may share it')
    .argument('<gpu_id>')
    .option('--price <orb>', 'what an hour costs; for attempts that start later', amount)
    .option('--name <name>')
    .option('--region <region>')
    .option('--sharing <on|off>', 'whether several tasks may have shares of it at the same time', onOff)
    .action(async (gpuId: string, { price, ...rest }: Changes) => {
      if (price === undefined && Object.keys(rest).length === 0)
        throw new CliError('Say what to change: --price, --name, --region or --sharing.', exitCodes.usage)
      showGpu(cli, await cli.client.gpus.update({ gpu_id: gpuId, price_per_hour: price, ...rest }))
    })
}

function addChecks(gpus: Command, cli: Cli) {
  pageOptions(gpus.command('audits'))
    .summary('what the market’s checks have said of your GPU')
    .argument('<gpu_id>')
    .action(async (gpuId: string, options: PageOptions) => {
      const list = (page: object) => cli.client.gpus.audits({ gpu_id: gpuId, ...page })
      cli.showList(await fetchItems(list, {}, options), {
        empty: 'It has not been checked yet.',
        columns: [
          { title: 'time', value: ({ judged_at }) => localTime(judged_at) },
          { title: 'task', value: ({ task_id }) => task_id },
          { title: 'kind', value: ({ kind }) => kind },
          { title: 'model', value: ({ model }) => model, shrinks: true },
          { title: 'verdict', value: ({ verdict }) => verdict.replace('_', ' ') },
          { title: 'what came out', value: ({ message }) => message, shrinks: true },
        ],
      })
    })
}

/** Whether and when it takes tasks. */
function addAvailabilityCommands(gpus: Command, cli: Cli) {
  gpus
    .command('maintenance')
    .summary('stop offering your GPU ("on": what runs finishes), or offer it again ("off")')
    .argument('<gpu_id>')
    .argument('<on|off>')
    .action(async (gpuId: string, state: string) => {
      if (state !== 'on' && state !== 'off') throw new CliError('Say "on" or "off".', exitCodes.usage)
      showGpu(cli, await cli.client.gpus.update({ gpu_id: gpuId, maintenance: state === 'on' }))
    })

  gpus
    .command('reclaim')
    .summary('take your GPU back at once: what runs on it stops, uncharged, and is tried elsewhere')
    .argument('<gpu_id>')
    .action(async (gpuId: string) => showGpu(cli, await cli.client.gpus.reclaim({ gpu_id: gpuId })))

  gpus
    .command('remove')
    .summary('delete your GPU; its history stays')
    .argument('<gpu_id>')
    .action(async (gpuId: string) =>
      cli.show(await cli.client.gpus.delete({ gpu_id: gpuId }), () => `Removed ${gpuId}.`),
    )
}

const statusColours = { available: 'green', in_use: 'cyan', maintenance: 'yellow', offline: 'dim' } as const

function gpuColumns(cli: Cli): Column<Gpu>[] {
  return [
    { title: 'id', value: ({ id }) => id },
    { title: 'name', value: ({ name }) => name, shrinks: true },
    { title: 'hardware', value: hardware, shrinks: true },
    { title: 'price/h', value: ({ price_per_hour }) => price_per_hour, right: true },
    { title: 'status', value: statusOf, paint: (text, { status }) => cli.terminal.paint(statusColours[status], text) },
    { title: 'region', value: ({ region }) => region, shrinks: true },
  ]
}

function statusOf({ status, draining, health, free_milli }: Gpu): string {
  if (status === 'in_use' && free_milli > 0)
    return `${status}, ${percentOf(free_milli)} free${draining ? ', draining' : ''}`
  if (draining) return `${status}, draining`
  return status !== 'available' || health === 'good' ? status : `${status}, ${health.replace('_', ' ')}`
}

function healthOf({ health, cool_down_until }: Gpu): string | null {
  if (health === 'good') return null
  if (health === 'cooling_down')
    return `cooling down: it has failed, and is offered nothing until ${localTime(cool_down_until)}`
  return 'on trial: it has failed several times in a row, and gets a task only where no other GPU is free'
}

function showGpu(cli: Cli, gpu: Gpu) {
  cli.show(gpu, () =>
    details([
      ['GPU', gpu.id],
      ['Name', gpu.name],
      ['Hardware', `${hardware(gpu)}${usableText(gpu)}`],
      ['Price', perHour(gpu.price_per_hour)],
      ['Status', statusOf(gpu)],
      ['Health', healthOf(gpu)],
      ['Sharing', gpu.sharing ? 'on: several tasks may have shares of it' : null],
      ['Agent', gpu.agent_id && `${gpu.agent_id} (${gpu.liveness ?? 'never heard'})`],
      ['Region', gpu.region],
      ['Task types', gpu.task_types.join(', ')],
      ['Models', gpu.models.join(', ')],
      ['Differences', gpu.differences.join('; ')],
      [
        'Machine',
        gpu.specs &&
          `${gpu.specs.cpu_model}, ${count(gpu.specs.cpu_cores, 'core')}, ${Math.round(gpu.specs.ram_gb * 10) / 10} GiB RAM, ${gpu.specs.os}`,
      ],
      [
        'Tasks',
        `${gpu.tasks_completed} completed, ${gpu.tasks_failed} failed by its fault, ${gpu.tasks_slow} far too slow`,
      ],
      ['Checks', `${gpu.audits_passed} passed, ${gpu.audits_failed} failed`],
      ['Owner', gpu.owner_id],
      ['Last seen', localTime(gpu.last_seen_at)],
    ]),
  )
  if (cli.json) return
  if (gpu.status === 'maintenance')
    cli.terminal.say(`It takes no new tasks. Its owner offers it again with: orbyte gpus maintenance ${gpu.id} off`)
  if (gpu.agent_id === null)
    cli.terminal.say(
      'No agent backs it yet. On its machine: orbyte agent start --token TOKEN (a token: orbyte tokens create NAME)',
    )
}
