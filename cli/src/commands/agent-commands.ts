import type { Command } from 'commander'
import { examples, pageOptions, type PageOptions } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { CliError, type ExitCode, exitCodes } from '../exit-codes.ts'
import { localTime } from '../format.ts'
import { fetchItems } from '../lists.ts'

/** What the agent does itself, on this machine. Its own program reads what follows the word. */
const ownCommands = [
  ['start', 'offer this machine’s GPUs until it is stopped (Ctrl-C: finish what runs, then stop)'],
  ['status', 'what the agent on this machine does, and what keeps it from earning'],
  ['drain', 'let what runs finish, take nothing new'],
  ['resume', 'take tasks again'],
  ['reclaim', 'take a GPU back at once: what runs on it stops, uncharged, and is tried elsewhere'],
  ['stop', 'stop the agent on this machine'],
  ['doctor', 'what this machine has, and what it lacks'],
  ['service', 'print what starts the agent at boot (systemd, launchd)'],
  ['engines', 'install or repair what runs text and images on this machine'],
] as const

export function addAgentCommands(program: Command, cli: Cli) {
  const agent = program
    .command('agent')
    .summary('offer this machine’s GPUs')
    .description('Offer this machine’s GPUs. The agent only makes outbound connections; what it may run is up to you.')
  examples(agent, [
    'tokens create "gaming PC"',
    'agent start --token TOKEN --price 0.40',
    'agent doctor',
    'agent reclaim',
    'agent service',
  ])
  for (const [name, summary] of ownCommands)
    agent
      .command(name)
      .summary(summary)
      .helpOption(false)
      .allowUnknownOption()
      .argument('[arguments...]')
      .action((args: string[]) => runAgent(cli, [name, ...args]))

  pageOptions(agent.command('list'))
    .summary('the agents on all your machines')
    .action(async (options: PageOptions) =>
      cli.showList(await fetchItems(cli.client.agents.list, {}, options), {
        empty:
          'No machine of yours is enrolled. On one with a GPU: orbyte agent start --token TOKEN (a token: orbyte tokens create NAME)',
        columns: [
          { title: 'id', value: ({ id }) => id },
          { title: 'machine', value: ({ hostname }) => hostname, shrinks: true },
          { title: 'os', value: ({ os }) => os, shrinks: true },
          { title: 'version', value: ({ version }) => version },
          { title: 'gpus', value: ({ gpus }) => gpus, right: true },
          {
            title: 'status',
            value: ({ status, connected, liveness }) =>
              status === 'active' ? (connected ? 'connected' : liveness) : status,
          },
          { title: 'why', value: ({ suspended_reason }) => suspended_reason, shrinks: true },
          { title: 'last seen', value: ({ last_seen_at }) => localTime(last_seen_at) },
        ],
      }),
    )
  agent
    .command('revoke')
    .summary('revoke a machine’s key: its agent is disconnected for good')
    .argument('<agent_id>')
    .action(async (id: string) => cli.show(await cli.client.agents.revoke({ agent_id: id }), () => `Revoked ${id}.`))
}

/** The agent says for itself what is wrong. */
async function runAgent(cli: Cli, args: string[]) {
  const { main } = await import('@orbyte/agent/main.ts')
  const exitCode = await main(agentArguments(cli, args))
  if (exitCode !== exitCodes.ok) throw new CliError('', exitCode as ExitCode)
}

/** `--json` and `--url` are everybody's options, so they are not among what is left for the agent. */
function agentArguments(cli: Cli, args: string[]): string[] {
  const [command] = args
  if (args.includes('--help') || args.includes('-h')) return ['help']
  const saysServer = args.some((word) => /^--server(=|$)/.test(word)) || cli.environment.agentServer !== null
  const needsServer = ['start', 'doctor', 'service'].includes(command!) && !saysServer
  const printsJson = cli.json && !['start', 'service', 'engines'].includes(command!)
  return [...args, ...(needsServer ? ['--server', cli.url] : []), ...(printsJson ? ['--json'] : [])]
}
