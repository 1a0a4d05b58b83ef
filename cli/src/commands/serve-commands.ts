import type { Command } from 'commander'
import { examples, wholeNumber } from '../arguments.ts'

type ServeOptions = { port?: number; host?: string; database?: string }

export function addServeCommands(program: Command) {
  const serve = program
    .command('serve')
    .summary('run a market')
    .description(
      'Run a market: the API and the agents’ connections on one port, on one database file. Everything else is set in the environment; see the configuration reference.',
    )
    .option('--port <number>', 'where to listen (PORT, 8000); 0: any free port', wholeNumber)
    .option('--host <address>', 'who may connect (HOST, 127.0.0.1); 0.0.0.0: other machines too')
    .option('--database <file>', 'where everything is kept (DATABASE_URL, ./orbyte.db)')
    .action(async ({ port, host, database }: ServeOptions) => {
      const { main } = await import('@orbyte/server/main.ts')
      const environment = { PORT: port?.toString(), HOST: host, DATABASE_URL: database }
      await main(Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined)))
    })
  examples(serve, [
    'serve',
    'serve --host 0.0.0.0 --port 80 --database /var/lib/orbyte/orbyte.db',
    'admin create carol@example.org',
  ])
}
