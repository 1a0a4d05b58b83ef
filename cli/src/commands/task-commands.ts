import { join } from 'node:path'
import type { api, InputOf, OutputOf } from '@orbyte/protocol'
import { watch } from '@orbyte/sdk'
import { type Command, Option } from 'commander'
import { examples, pageOptions, type PageOptions, wholeNumber } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { CliError, exitCodes } from '../exit-codes.ts'
import { explanationText } from '../explanation-text.ts'
import { follow, type Task } from '../follow.ts'
import { bytes, count, duration, gpusOf, localTime, orb, perHour } from '../format.ts'
import { fetchItems } from '../lists.ts'
import { taskIdOf } from '../references.ts'
import { failUnlessCompleted } from '../run-task-command.ts'
import { type Column, details, table } from '../table.ts'
import { saveFiles } from '../task-files.ts'
import { newTaskFrom, tasksFromFile } from '../task-input.ts'
import { truncate } from '../text-width.ts'

type Summary = OutputOf<typeof api.tasks.create>
type Filters = Pick<InputOf<typeof api.tasks.list>, 'status' | 'task_type'>

export function addTaskCommands(program: Command, cli: Cli) {
  const tasks = program
    .command('tasks')
    .summary('your tasks')
    .description('Your tasks. Wherever a task_id is asked for, "last" is the newest one.')
  examples(tasks, [
    'tasks list --status running',
    'tasks show last',
    'tasks explain last',
    'tasks watch task_01k…',
    'tasks submit tasks.jsonl',
    'tasks files last -o results',
    'tasks images --all -o pictures',
    'tasks cancel task_01k…',
  ])
  addReading(tasks, cli)
  addResults(tasks, cli)
  addChanging(tasks, cli)
}

function addReading(tasks: Command, cli: Cli) {
  pageOptions(tasks.command('list', { isDefault: true }))
    .summary('your tasks, newest first')
    .addOption(new Option('--status <status>').choices(['pending', 'running', 'completed', 'failed', 'cancelled']))
    .option('--type <task_type>', 'like text_generation')
    .action(
      async ({ status, type, ...options }: PageOptions & { status?: Filters['status']; type?: Filters['task_type'] }) =>
        cli.showList(await fetchItems(cli.client.tasks.list, { status, task_type: type }, options), {
          columns: taskColumns(cli),
          empty:
            status || type
              ? 'No task matches. All of them: orbyte tasks list'
              : 'No tasks yet. Run one: orbyte run text "Once upon a time"',
        }),
    )
  tasks
    .command('show')
    .summary('everything about a task: where it is, why it waits, what it cost')
    .argument('<task_id>')
    .action(async (given: string) => showTask(cli, await cli.client.tasks.get({ task_id: await taskIdOf(cli, given) })))
  tasks
    .command('explain')
    .summary('why a task waits, what would change it, and what each GPU says to it')
    .argument('<task_id>')
    .option('--limit <number>', 'how many GPUs to show', wholeNumber, 20)
    .action(async (given: string, { limit }: { limit: number }) => {
      const explained = await cli.client.tasks.explain({ task_id: await taskIdOf(cli, given), limit })
      cli.show(explained, () => explanationText(cli, explained))
    })
  tasks
    .command('watch')
    .summary('follow a task until it has ended; --json prints its events, one a line')
    .argument('<task_id>')
    .action(async (given: string) => runWatch(cli, await taskIdOf(cli, given)))
}

function addResults(tasks: Command, cli: Cli) {
  tasks
    .command('output')
    .summary('the text that a task has produced so far')
    .argument('<task_id>')
    .option('--logs', 'its log lines instead')
    .action(async (given: string, { logs }: { logs?: boolean }) => {
      const task_id = await taskIdOf(cli, given)
      const text = await (logs ? cli.client.tasks.logs({ task_id }) : cli.client.tasks.output({ task_id }))
      if (text === '' && !cli.json) return cli.terminal.say(await noTextLine(cli, task_id, logs === true))
      cli.show({ [logs ? 'logs' : 'output']: text }, () => text.replace(/\n$/, ''))
    })
  tasks
    .command('files')
    .summary('the files that a task has produced; -o fetches them')
    .argument('<task_id>')
    .argument('[names...]', 'only these')
    .option('-o, --output <folder>', 'write them to this folder')
    .action(async (given: string, names: string[], options: { output?: string }) =>
      runFiles(cli, await taskIdOf(cli, given), { names, ...options }),
    )
  pageOptions(tasks.command('images'))
    .summary('the images that your tasks have made, newest first; -o fetches them')
    .option('-o, --output <folder>', 'write them to this folder, each with its task’s id before its name')
    .action(async ({ output, ...options }: PageOptions & { output?: string }) => runImages(cli, options, output))
  tasks
    .command('delete-data')
    .summary('delete the input, output, logs and files of a task that has ended')
    .argument('<task_id>')
    .action(async (given: string) => {
      const task_id = await taskIdOf(cli, given)
      cli.show(
        await cli.client.tasks.deleteData({ task_id }),
        () => `Deleted the data of ${task_id}. Its payments stay.`,
      )
    })
}

function addChanging(tasks: Command, cli: Cli) {
  tasks
    .command('submit')
    .summary('submit tasks from a JSON or JSON Lines file, all of them or none, without waiting')
    .argument('<file>', '"-": standard input')
    .action(async (path: string) => {
      const items = await submitAll(cli, await tasksFromFile(cli, path))
      cli.show({ items }, () => items.map(({ id }) => id).join('\n'))
      if (!cli.json)
        cli.terminal.say(
          `Submitted ${count(items.length, 'task')}. Follow one with: orbyte tasks watch ${items[0]!.id}`,
        )
    })
  tasks
    .command('rerun')
    .summary('submit a task again with the same input and limits')
    .argument('<task_id>')
    .action(async (given: string) => {
      const old = await cli.client.tasks.get({ task_id: await taskIdOf(cli, given) })
      const task = await cli.client.tasks.create(newTaskFrom(old))
      cli.show(task, () => task.id)
      if (!cli.json) cli.terminal.say(`Follow it with: orbyte tasks watch ${task.id}`)
    })
  tasks
    .command('cancel')
    .summary('cancel tasks; each is charged for the time it really ran')
    .argument('<task_ids...>')
    .action(async (given: string[]) => {
      const items: Summary[] = []
      for (const id of given) items.push(await cli.client.tasks.cancel({ task_id: await taskIdOf(cli, id) }))
      cli.show({ items }, () =>
        items
          .map(({ id, cost, run_ms }) => `Cancelled ${id}: ran ${duration(run_ms)}, cost ${cost ?? '0'} ORB`)
          .join('\n'),
      )
    })
}

/** Where the result of a task is that has written no text. */
async function noTextLine(cli: Cli, task_id: string, wantsLogs: boolean): Promise<string> {
  const { files, output_data } = await cli.client.tasks.get({ task_id })
  if (wantsLogs) return 'The task has logged nothing.'
  if (files.length > 0)
    return `The task has written no text but ${count(files.length, 'file')}: orbyte tasks files ${task_id} -o .`
  if (output_data !== null) return `The task has written no text. Its result is in: orbyte tasks show ${task_id} --json`
  return `The task has written nothing yet. How it is: orbyte tasks show ${task_id}`
}

async function submitAll(cli: Cli, tasks: InputOf<typeof api.tasks.create>[]): Promise<Summary[]> {
  const [first] = tasks
  if (tasks.length === 1) return [await cli.client.tasks.create(first!)]
  return (await cli.client.tasks.createBatch({ tasks })).items
}

async function runWatch(cli: Cli, taskId: string) {
  if (cli.json) {
    for await (const event of watch(cli.client, taskId)) cli.terminal.print(JSON.stringify(event))
    return failUnlessCompleted(await cli.client.tasks.get({ task_id: taskId }))
  }
  const { task } = await follow(cli, taskId, { streamsText: true })
  cli.terminal.say(`${task.status} · ran ${duration(task.run_ms)} · cost ${task.cost ?? '0'} ORB`)
  failUnlessCompleted(task)
}

async function runFiles(cli: Cli, taskId: string, { names, output }: { names: string[]; output?: string }) {
  const { files } = await cli.client.tasks.get({ task_id: taskId })
  const missing = names.find((name) => !files.some((file) => file.name === name))
  if (missing !== undefined)
    throw new CliError(`The task has no file ${missing}. What it has: orbyte tasks files ${taskId}`, exitCodes.notFound)
  const wanted = names.length === 0 ? files : files.filter(({ name }) => names.includes(name))
  if (output !== undefined) {
    const files = wanted.map((file) => ({ file, prefix: '' }))
    await saveFiles(cli, output, files)
  }
  cli.showList(
    { items: wanted },
    {
      empty: 'The task has produced no files.',
      columns: [
        { title: 'name', value: ({ name }) => (output === undefined ? name : join(output, name)) },
        { title: 'type', value: ({ mime_type }) => mime_type },
        { title: 'size', value: ({ size_bytes }) => bytes(size_bytes), right: true },
        { title: 'sha256', value: ({ sha256 }) => sha256, shrinks: true },
      ],
    },
  )
}

async function runImages(cli: Cli, options: PageOptions, output: string | undefined) {
  const page = await fetchItems(cli.client.tasks.images, {}, options)
  if (output !== undefined) {
    const files = page.items.flatMap(({ id, images }) => images.map((file) => ({ file, prefix: `${id}-` })))
    await saveFiles(cli, output, files)
    cli.terminal.say(`Wrote ${count(files.length, 'image')} to ${output}.`)
  }
  cli.showList(page, {
    empty: 'No images yet. Make one: orbyte run image "a red circle" -o circle.png',
    columns: [
      { title: 'task', value: ({ id }) => id },
      { title: 'images', value: ({ images }) => images.length, right: true },
      { title: 'model', value: ({ model }) => model, shrinks: true },
      { title: 'submitted', value: ({ created_at }) => localTime(created_at) },
      { title: 'prompt', value: ({ prompt }) => prompt, shrinks: true },
    ],
  })
}

const statusColours = {
  pending: 'yellow',
  running: 'cyan',
  completed: 'green',
  failed: 'red',
  cancelled: 'dim',
} as const

function taskColumns(cli: Cli): Column<Summary>[] {
  return [
    { title: 'id', value: ({ id }) => id },
    { title: 'type', value: ({ task_type }) => task_type, shrinks: true },
    {
      title: 'status',
      value: ({ status }) => status,
      paint: (text, { status }) => cli.terminal.paint(statusColours[status], text),
    },
    { title: 'ran', value: ({ run_ms }) => duration(run_ms), right: true },
    { title: 'cost', value: ({ cost, hold }) => cost ?? `≤ ${hold}`, right: true },
    { title: 'submitted', value: ({ created_at }) => localTime(created_at) },
    { title: 'title', value: ({ title }) => title, shrinks: true },
  ]
}

function showTask(cli: Cli, task: Task) {
  cli.show(task, () =>
    [
      details([
        ['Task', task.id],
        ['Title', task.title],
        ['Type', task.task_type],
        ['Status', task.status],
        ['Waiting', task.waiting?.message ?? null],
        ['End', task.end && `${task.end.message} (${task.end.code}, decided by the ${task.end.decided_by})`],
        ['Cost', task.cost === null ? `at most ${task.hold} ORB, which is held` : orb(task.cost)],
        ['Price', `at most ${perHour(task.max_price_per_hour)}`],
        ['Ran', duration(task.run_ms)],
        ['Checked', task.reexecution && checkedWords[task.reexecution]],
        ['Submitted', localTime(task.created_at)],
        ['Ended', localTime(task.completed_at)],
        ['Payment', task.payment_id],
        ['Files', task.files.map(({ name }) => name).join(', ')],
        ['Input', task.input_data && glance(task.input_data)],
        ['Output', task.output_data && glance(task.output_data)],
      ]),
      ...(task.attempts.length > 0 ? ['', table(task.attempts, attemptColumns, cli.terminal.tableStyle)] : []),
    ].join('\n'),
  )
}

const checkedWords = {
  waiting: 'it is being run again on another GPU',
  confirmed: 'another owner’s GPU gave the same result',
  refuted: 'others agree on another result: what you paid is given back where that is still possible',
  undecided: 'it was to be run again, and nobody can say who is right',
} as const

/** All of it is in --json. */
const glance = (data: object) => truncate(JSON.stringify(data), 300)

function ranFor({ run_ms, expected_run_ms, slow }: Task['attempts'][number]): string {
  return slow ? `${duration(run_ms)} (usually ${duration(expected_run_ms ?? 0)})` : duration(run_ms)
}

const attemptColumns: Column<Task['attempts'][number]>[] = [
  { title: 'attempt', value: ({ number }) => number, right: true },
  { title: 'gpu', value: gpusOf, shrinks: true },
  { title: 'hardware', value: ({ gpu_model }) => gpu_model, shrinks: true },
  { title: 'status', value: ({ status }) => status },
  { title: 'price/h', value: ({ price_per_hour }) => price_per_hour, right: true },
  { title: 'ran', value: ranFor, right: true },
  { title: 'cost', value: ({ cost }) => cost, right: true },
  { title: 'why it ended', value: ({ end, progress }) => end?.message ?? progress, shrinks: true },
]
