import { realpathSync } from 'node:fs'
import { percentOf, printable, wholeMilli } from '@orbyte/protocol'
import { agentFlagsHelp, type AgentOptions, type Environment, loadAgentOptions, UsageError } from './agent-config.ts'
import type { AgentStatus, DeviceStatus } from './agent-status.ts'
import { computesText } from './executors/rehearsal.ts'
import { askAgent, type ControlCommand } from './owner/control.ts'
import { type DoctorCheck, examine } from './owner/doctor.ts'
import { serviceFile } from './owner/service.ts'
import { installSystemEngines } from './system-engines.ts'
import { systemLog, systemOutside } from './system-outside.ts'

/** What the process that a command runs in is and can. */
export type CommandContext = {
  readonly environment: Environment
  readonly signal: AbortSignal
  /** How this program was started: the path of Node, its flags, and the program with its leading words. */
  readonly invocation: readonly string[]
  print(text: string): void
}

/** As the CLI's own. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, refused: 3 } as const

export const agentHelp = `Usage: orbyte agent COMMAND [FLAGS]

  start            offer this machine's GPUs until it is stopped (Ctrl-C: finish what runs; twice: stop now)
  status           what the agent does, and what keeps it from earning
  drain [GPU]      let what runs finish, take nothing new
  resume [GPU]     take tasks again
  reclaim [GPU]    take a GPU back at once
  stop [--now]     stop the agent: when what runs has finished, or now
  doctor           what this machine has, and what it lacks
  service          what starts the agent at boot (systemd, launchd)
  engines          install or repair the engines of this machine

GPU is a number, an id or a name from "status"; without it, all are meant. All but start, service and engines know --json.

Flags of start, doctor and service; the others need --data where it is not the default:
${agentFlagsHelp()}

Examples:
  orbyte agent start --server https://market.example --token TOKEN --price 0.40
  orbyte agent start --cpu --hours 22:00-07:00
  orbyte agent reclaim 0
`

/** One of the commands that end by themselves. Resolves with the exit code; rejects with a UsageError. */
export async function runCommand(command: string, args: readonly string[], context: CommandContext): Promise<number> {
  switch (command) {
    case 'status':
    case 'drain':
    case 'resume':
    case 'reclaim':
    case 'stop':
      return await control(command, args, context)
    case 'doctor':
      return await doctor(args, context)
    case 'service':
      return service(args, context)
    case 'engines': {
      const { dataPath, logLevel } = loadAgentOptions(args, context.environment)
      await installSystemEngines({ dataPath, ...context, log: systemLog(logLevel) })
      return exitCodes.ok
    }
    case 'help':
    case '--help':
    case '-h':
      context.print(agentHelp)
      return exitCodes.ok
  }
  throw new UsageError(`There is no command "${command}". See: orbyte agent help`)
}

async function control(
  command: 'status' | 'drain' | 'resume' | 'reclaim' | 'stop',
  args: readonly string[],
  { environment, print }: CommandContext,
): Promise<number> {
  const { words, rest } = splitWords(args)
  if (words.length > 1) throw new UsageError(`"${words.join(' ')}" is more than one GPU`)
  const { dataPath } = loadAgentOptions(without(rest, ['--json', '--now']), environment)
  const isNow = command === 'stop' && rest.includes('--now')
  const asked: ControlCommand = isNow ? 'stop now' : command
  const status = await askAgent(dataPath, asked, words[0] ?? null)
  print(rest.includes('--json') ? JSON.stringify(status, null, 2) : statusText(status))
  return exitCodes.ok
}

async function doctor(args: readonly string[], { environment, print, signal }: CommandContext): Promise<number> {
  const options = loadAgentOptions(without(args, ['--json']), environment)
  const outside = systemOutside({ ...options, logLevel: 'silent' }, environment)
  const runningAgent = async () => await askAgent(options.dataPath, 'status').catch(() => null)
  const nodeVersion = process.versions.node
  const checks = await examine({ options, outside, nodeVersion, fetch, runningAgent, signal })
  await Promise.all(outside.executors.map((executor) => executor.close()))
  print(args.includes('--json') ? JSON.stringify(checks, null, 2) : doctorText(checks))
  return checks.every(({ state }) => state !== 'problem') ? exitCodes.ok : exitCodes.failed
}

function service(args: readonly string[], { environment, invocation, print }: CommandContext): number {
  const options: AgentOptions = loadAgentOptions(args, environment)
  const file = serviceFile({
    platform: process.platform,
    command: invocation,
    flags: ['start', ...withoutToken(args), '--data', options.dataPath],
    dataPath: options.dataPath,
    stopSecondsMax: Math.ceil(options.drainMsMax / 1_000) + 30,
  })
  if (file === null) {
    throw new UsageError(
      `There is no template for ${process.platform}: start "orbyte agent start" with your system's own means.`,
    )
  }
  const enrol =
    'The token is left out on purpose: start the agent once by hand with --token, then the machine is known.'
  print(`${file.text}\n${[...file.steps, enrol].map((step) => `# ${step}`).join('\n')}`)
  return exitCodes.ok
}

/** How this process was started, for the service file. */
export function invocationOf(execPath: string, execArgv: readonly string[], program: string): string[] {
  return [execPath, ...execArgv, realpathSync(program)]
}

function statusText(status: AgentStatus): string {
  const market = status.connected
    ? `connected to ${status.server} as ${status.agent_id}`
    : `not connected to ${status.server}`
  const devices = status.devices.map((device) => {
    const { index, name, price_per_hour, gpu_id, attempts } = device
    const price = price_per_hour === null ? '' : `, ${price_per_hour} ORB/h`
    const work = attempts.map(({ task_type, status: phase, run_ms, milli }) => {
      const share = milli === wholeMilli ? '' : `${percentOf(milli)} of it for `
      return `: ${share}${task_type}, ${phase}, ${(run_ms / 1_000).toFixed(1)} s`
    })
    const how = device.computes.map((one) => `\n     ${computesText(one)}`).join('')
    return `  ${index}  ${name} (${vramText(device)}${price}) ${gpu_id ?? ''}\n     ${stateOf(device)}${work.join('')}${how}`
  })
  const lines = [
    `${status.stopping ? 'stopping' : 'running'}, ${market}`,
    `can do: ${status.task_types.join(', ') || 'nothing'}`,
    ...devices,
    ...(status.results_waiting > 0 ? [`${status.results_waiting} results wait for the market`] : []),
    ...status.problems.map((problem) => `! ${problem}`),
  ]
  // Names and problems are the market's words.
  return printable(lines.join('\n'))
}

function vramText({ vram_gb, usable_vram_gb = vram_gb }: DeviceStatus): string {
  const [all, usable] = [vram_gb.toFixed(1), usable_vram_gb.toFixed(1)]
  return usable === all ? `${all} GiB` : `${all} GiB, ${usable} of it for tasks`
}

/** How a device is and, where it takes no tasks, what would change that. */
function stateOf({ status, gpu_id, cool_down_ms }: DeviceStatus): string {
  switch (status) {
    case 'cooling down':
      return `cooling down: it has failed, and is offered nothing for ${Math.ceil(cool_down_ms / 1_000)} s`
    case 'on trial':
      return 'on trial: it has failed several times in a row, and gets a task only where no other GPU is free'
    case 'drained':
    case 'reclaimed':
      return `${status}, takes no tasks until: orbyte agent resume`
    case 'maintenance':
      return `maintenance, takes no tasks until: orbyte gpus maintenance ${gpu_id} off`
    case 'outside hours':
      return 'outside hours: it was started with --hours'
    case 'offline':
      return 'offline: the market has not answered yet'
    case 'not admitted':
    case 'available':
    case 'running':
      return status
  }
}

function doctorText(checks: readonly DoctorCheck[]): string {
  const lines = checks.flatMap(({ name, state, message, remedy }) => [
    `${state.padEnd(8)} ${name}: ${message}`,
    ...(remedy === null ? [] : [`         → ${remedy}`]),
  ])
  return lines.join('\n')
}

/** A GPU is a word before the first flag. */
function splitWords(args: readonly string[]): { words: string[]; rest: string[] } {
  const end = args.findIndex((arg) => arg.startsWith('-'))
  const at = end === -1 ? args.length : end
  return { words: args.slice(0, at), rest: args.slice(at) }
}

function without(args: readonly string[], unwanted: readonly string[]): string[] {
  return args.filter((arg) => !unwanted.includes(arg))
}

/** A service file is for others to read. */
function withoutToken(args: readonly string[]): string[] {
  return args.filter((arg, at) => arg !== '--token' && args[at - 1] !== '--token' && !arg.startsWith('--token='))
}
