import { writeFile } from 'node:fs/promises'
import type { TaskType } from '@orbyte/protocol'
import type { Command } from 'commander'
import { amount, decimal, durationMs, examples, fieldsOf, milliGpu, wholeNumber } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { CliError, exitCodes } from '../exit-codes.ts'
import type { Followed } from '../follow.ts'
import { readStdin } from '../prompt.ts'
import { type NewTask, runTaskCommand } from '../run-task-command.ts'
import { checkWritable, localName, numberedPath, saveFile } from '../task-files.ts'
import { taskFromFile } from '../task-input.ts'

/** Where and at which price; the same for every type of task. */
type MarketOptions = {
  gpu?: string
  gpus?: number
  gpuShare?: number
  gpuModel?: string
  minVram?: number
  minCpuCores?: number
  minRam?: number
  minStorage?: number
  region?: string
  maxPrice?: string
  maxCost?: string
  maxTime?: number
  maxWait?: number
  wait?: boolean
  autoPay: boolean
  allowReexecution?: boolean
  priority?: number
  title?: string
  detach?: boolean
  output?: string
}

export function addRunCommands(program: Command, cli: Cli) {
  const run = program
    .command('run')
    .summary('run a task and wait for its result')
    .description(
      'Run a task on a GPU of the market and wait for its result. The result goes to standard output; what it may cost, where it runs and what it did cost go to standard error. Ctrl-C cancels the task, a second Ctrl-C leaves it.',
    )
  examples(run, [
    'run text "Once upon a time" --max-tokens 100',
    'run text - < prompt.txt > story.txt',
    'run image "a red circle" -o circle.png',
    'run embed "first text" "second text" -o vectors.json',
    'run file task.json --max-cost 0.5',
    'run text "Hello" --gpu gpu_01k… --max-price 0.40 --no-auto-pay',
    'run text "Hello" --model big-one --gpus 2',
    'run text "Hello" --gpu-share 25% --min-vram 6',
  ])
  addText(run, cli)
  addImage(run, cli)
  addEmbed(run, cli)
  addFile(run, cli)
}

function addText(run: Command, cli: Cli) {
  marketOptions(run.command('text'))
    .summary('continue or answer a text')
    .argument('[prompt]', 'the prompt; "-" or nothing reads it from standard input')
    .option('--system <text>', 'how to answer; the prompt becomes a message of a conversation')
    .option('--max-tokens <number>', 'stop after so many tokens', wholeNumber)
    .option('--temperature <number>', '0 is deterministic; higher is more varied', decimal)
    .option('--top-p <number>', 'sample from the likeliest tokens only', decimal)
    .option('--seed <number>', 'the same seed gives the same text', wholeNumber)
    .option('-o, --output <file>', 'write the text to a file when it is complete')
    .action(async (given: string | undefined, { system, ...options }: MarketOptions & { system?: string }) => {
      const prompt = await promptFrom(cli, given)
      const input = system
        ? {
            messages: [
              { role: 'system', content: system },
              { role: 'user', content: prompt },
            ],
          }
        : { prompt }
      await submit(cli, newTask('text_generation', input, options), options)
    })
}

function addImage(run: Command, cli: Cli) {
  marketOptions(run.command('image'))
    .summary('make an image')
    .argument('[prompt]', 'what it shows; "-" or nothing reads it from standard input')
    .option('--count <number>', 'how many images', wholeNumber)
    .option('--steps <number>', 'more is slower and finer', wholeNumber)
    .option('--guidance <number>', 'how strongly the prompt steers', decimal)
    .option('--no-upscale', 'keep the size that the model makes')
    .option('--seed <number>', 'the same seed gives the same image', wholeNumber)
    .option('-o, --output <file>', 'where the image goes; the name of the task and its file by default')
    .action(async (given: string | undefined, { upscale, ...options }: MarketOptions & { upscale: boolean }) => {
      const input = { prompt: await promptFrom(cli, given), ...(upscale ? {} : { upscale }) }
      await submit(cli, newTask('image_generation', input, options), options)
    })
}

function addEmbed(run: Command, cli: Cli) {
  marketOptions(run.command('embed'))
    .summary('turn texts into vectors, one JSON array a line')
    .argument('[texts...]', 'the texts; nothing reads them from standard input, one a line')
    .option('-o, --output <file>', 'write the vectors to a file, one JSON array a line')
    .action(async (given: string[], options: MarketOptions) => {
      const texts =
        given.length > 0 ? given : (await readStdin(cli.terminal)).split('\n').filter((line) => line.trim() !== '')
      await submit(cli, newTask('embedding', { input: texts }, options), options)
    })
}

function addFile(run: Command, cli: Cli) {
  marketOptions(run.command('file'))
    .summary('run a task of any type, described in a JSON file')
    .argument('<file>', 'a JSON object as POST /api/tasks takes it; "-": standard input')
    .option('-o, --output <file>', 'where the output goes')
    .action(async (path: string, options: MarketOptions) => {
      const task = await taskFromFile(cli, path)
      const given = newTask(task.task_type, {}, options)
      await submit(
        cli,
        {
          ...task,
          ...given,
          input_data: { ...task.input_data, ...given.input_data },
          requirements: { ...task.requirements, ...given.requirements },
        },
        options,
      )
    })
}

function marketOptions(command: Command): Command {
  return command
    .option('--model <name>', 'a model of the catalogue (orbyte models)')
    .option('--max-price <orb>', 'pay at most so much an hour', amount)
    .option('--max-cost <orb>', 'pay at most so much in all; the task stops when it is used up', amount)
    .option('--max-time <time>', 'run at most so long, like 90s or 10m', durationMs)
    .option('--max-wait <time>', 'give up after waiting so long, like 10m or 2h', durationMs)
    .option('--gpu <gpu_id>', 'this GPU and no other')
    .option('--gpus <number>', 'so many whole GPUs of one machine, at one price for all', wholeNumber)
    .option(
      '--gpu-share <percent>',
      'a share of a GPU is enough, like 25%; say with --min-vram how much memory',
      milliGpu,
    )
    .option('--gpu-model <text>', 'part of the hardware’s name')
    .option('--min-vram <gb>', 'GPUs that are sold with so many GB at least; of a share: so many GiB', decimal)
    .option('--min-cpu-cores <number>', 'at least so many processor cores in its machine', wholeNumber)
    .option('--min-ram <gib>', 'at least so much memory in its machine', decimal)
    .option('--min-storage <gib>', 'at least so much free on its disk', decimal)
    .option('--region <region>', 'in this region')
    .option('--wait', 'wait for a GPU even if none fits now')
    .option('--no-auto-pay', 'look at the result before the provider is paid')
    .option(
      '--allow-reexecution',
      'let the market run it again elsewhere, at its own cost, to check the result: your input goes to one more machine',
    )
    .option('--priority <0-9>', 'among your own tasks: 9 goes first', wholeNumber)
    .option('--title <text>', 'what you call it')
    .option('-d, --detach', 'submit it, print its id, and do not wait')
}

/** Options that are not about the market are fields of the input, under the contract's names. */
function newTask(taskType: TaskType, input: Record<string, unknown>, options: MarketOptions): NewTask {
  const {
    gpu,
    gpus,
    gpuShare,
    gpuModel,
    minVram,
    minCpuCores,
    minRam,
    minStorage,
    region,
    maxPrice,
    maxCost,
    maxTime,
    maxWait,
    wait,
    autoPay,
    allowReexecution,
    priority,
    title,
    ...rest
  } = options
  const { detach: _detach, output: _output, ...own } = rest
  const task = {
    ...{ task_type: taskType, title, priority, wait, max_cost: maxCost, max_price_per_hour: maxPrice },
    ...{ max_duration_ms: maxTime, max_wait_ms: maxWait, auto_pay: autoPay ? undefined : false },
    allow_reexecution: allowReexecution,
    requirements: {
      ...{ gpu_id: gpu, gpu_count: gpus, gpu_milli: gpuShare, gpu_model: gpuModel, min_vram_gb: minVram, region },
      ...{ min_cpu_cores: minCpuCores, min_ram_gb: minRam, min_storage_gb: minStorage },
    },
    input_data: { ...input, ...fieldsOf(own) },
  }
  return JSON.parse(JSON.stringify(task)) as NewTask
}

async function promptFrom(cli: Cli, given: string | undefined): Promise<string> {
  if (given !== undefined && given !== '-') return given
  if (given === undefined && cli.terminal.stdin.isTTY)
    throw new CliError('What is the prompt? Like: orbyte run text "Once upon a time"', exitCodes.usage)
  return (await readStdin(cli.terminal)).replace(/\r?\n$/, '')
}

async function submit(cli: Cli, task: NewTask, { output, detach }: MarketOptions): Promise<void> {
  if (output !== undefined) await checkWritable(output)
  const streamsText = task.task_type !== 'embedding' && output === undefined
  await runTaskCommand(cli, task, { detach, streamsText, finish: (ended) => finish(cli, ended, output) })
}

/** The result of a completed task, where it has not been streamed already. */
async function finish(cli: Cli, { task, wroteText }: Followed, output: string | undefined): Promise<void> {
  const data = task.output_data
  if (task.task_type === 'embedding') {
    const vectors = ((data?.embeddings ?? []) as number[][]).map((vector) => JSON.stringify(vector))
    if (output === undefined) return vectors.forEach((line) => cli.terminal.print(line))
    return writeOutput(cli, output, `${vectors.join('\n')}\n`)
  }
  if (task.files.length > 0) {
    for (const [index, file] of task.files.entries()) {
      const path = output === undefined ? `${localName(task.id)}-${localName(file.name)}` : numberedPath(output, index)
      await saveFile(cli, file, path)
      cli.terminal.print(path)
    }
    return
  }
  if (output !== undefined) return writeOutput(cli, output, await cli.client.tasks.output({ task_id: task.id }))
  if (!wroteText && data) cli.terminal.print(JSON.stringify(data, null, 2))
}

async function writeOutput(cli: Cli, path: string, text: string): Promise<void> {
  await writeFile(path, text)
  cli.terminal.print(path)
}
