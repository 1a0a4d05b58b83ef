import type { Command } from 'commander'
import { examples, pageOptions, type PageOptions, wholeNumber } from '../arguments.ts'
import type { Cli } from '../cli.ts'
import { localTime } from '../format.ts'
import { fetchItems } from '../lists.ts'
import type { Column } from '../table.ts'

type Credential = Awaited<ReturnType<Cli['client']['apiKeys']['list']>>['items'][number]
type NewOptions = { days?: number }

export function addCredentialCommands(program: Command, cli: Cli) {
  addKeyCommands(program, cli)
  addTokenCommands(program, cli)
}

function addKeyCommands(program: Command, cli: Cli) {
  const keys = program
    .command('keys')
    .summary('API keys for your programs')
    .description('API keys: what programs of yours log in with.')
  examples(keys, ['keys create laptop', 'keys create ci --days 30', 'keys revoke key_01k…'])
  pageOptions(keys.command('list', { isDefault: true }))
    .summary('your API keys')
    .action(async (options: PageOptions) =>
      cli.showList(await fetchItems(cli.client.apiKeys.list, {}, options), {
        columns: credentialColumns,
        empty: 'You have no API keys. Make one with: orbyte keys create NAME',
      }),
    )
  keys
    .command('create')
    .summary('make a key; it is shown only now')
    .argument('<name>', 'what it is for')
    .option('--days <number>', 'it expires after so many days', wholeNumber)
    .action(async (name: string, { days }: NewOptions) => {
      const created = await cli.client.apiKeys.create({ name, expires_in_days: days })
      cli.show(created, () => created.key)
      if (!cli.json)
        cli.terminal.say(`Keep it now, it is not shown again. Use it with: export ORBYTE_TOKEN=${created.prefix}…`)
    })
  keys
    .command('revoke')
    .summary('end a key at once')
    .argument('<key_id>')
    .action(async (id: string) => cli.show(await cli.client.apiKeys.revoke({ api_key_id: id }), () => `Revoked ${id}.`))
}

function addTokenCommands(program: Command, cli: Cli) {
  const tokens = program
    .command('tokens')
    .summary('agent tokens: they enrol machines as yours')
    .description('Agent tokens: whoever starts an agent with one enrols that machine as yours.')
  examples(tokens, ['tokens create "gaming PC"', 'agent start --token TOKEN', 'tokens revoke atok_01k…'])
  pageOptions(tokens.command('list', { isDefault: true }))
    .summary('your agent tokens')
    .action(async (options: PageOptions) =>
      cli.showList(await fetchItems(cli.client.agentTokens.list, {}, options), {
        columns: credentialColumns,
        empty: 'You have no agent tokens. To offer a GPU, make one with: orbyte tokens create NAME',
      }),
    )
  tokens
    .command('create')
    .summary('make a token; it is shown only now')
    .argument('<name>', 'what it is for')
    .option('--days <number>', 'it expires after so many days', wholeNumber)
    .action(async (name: string, { days }: NewOptions) => {
      const created = await cli.client.agentTokens.create({ name, expires_in_days: days })
      cli.show(created, () => created.token)
      if (cli.json) return
      const { agent_package: path } = await cli.client.health.get()
      const command = path === null ? 'orbyte' : `npx -y ${new URL(path, cli.url).href}`
      cli.terminal.say(
        `Keep it now, it is not shown again. On the machine with the GPU, with Node.js 20.19 or newer:\n  ${command} agent start --server ${cli.url} --token TOKEN`,
      )
    })
  tokens
    .command('revoke')
    .summary('end a token; machines that it enrolled stay enrolled')
    .argument('<token_id>')
    .action(async (id: string) =>
      cli.show(await cli.client.agentTokens.revoke({ agent_token_id: id }), () => `Revoked ${id}.`),
    )
}

const credentialColumns: Column<Omit<Credential, 'id'> & { id: string }>[] = [
  { title: 'id', value: ({ id }) => id },
  { title: 'name', value: ({ name }) => name, shrinks: true },
  { title: 'begins with', value: ({ prefix }) => prefix },
  { title: 'made', value: ({ created_at }) => localTime(created_at) },
  { title: 'last used', value: ({ last_used_at }) => localTime(last_used_at) ?? 'never' },
  { title: 'expires', value: ({ expires_at }) => localTime(expires_at) ?? 'never' },
]
