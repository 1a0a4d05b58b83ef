import { runCli } from './program.ts'

// Whoever reads the output may stop early (`orbyte tasks list | head`): that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

// Set, not called: what is still being written to a pipe gets through.
process.exitCode = await runCli(process.argv.slice(2), process)
