import { existsSync, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { printable } from '@orbyte/protocol'
import type { AgentEnd } from './agent.ts'
import { type CommandContext, exitCodes, invocationOf, runCommand } from './agent-commands.ts'
import { loadAgentOptions, processEnvironment, UsageError } from './agent-config.ts'
import { startSystemAgent } from './system-agent.ts'

/** `orbyte agent …`: resolves with the exit code when the command, or the agent, has ended. */
export async function main(args: readonly string[]): Promise<number> {
  const [first] = args
  const isStart =
    first === undefined || first === 'start' || (first.startsWith('-') && !['--help', '-h'].includes(first))
  try {
    if (isStart) return await start(args.slice(first === 'start' ? 1 : 0))
    return await runCommand(first, args.slice(1), commandContext(first))
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error)
    const exitCode = error instanceof UsageError ? exitCodes.usage : exitCodes.failed
    console.error(args.includes('--json') ? JSON.stringify({ code: 'failed', detail, exit_code: exitCode }) : detail)
    return exitCode
  }
}

const exitCodeOf: Readonly<Record<AgentEnd['reason'], number>> = {
  stopped: exitCodes.ok,
  refused: exitCodes.refused,
  failed: exitCodes.failed,
}

async function start(args: readonly string[]): Promise<number> {
  const environment = processEnvironment()
  const options = loadAgentOptions(args, environment)
  const givenUp = new AbortController()
  // Until it runs, a signal ends the start; afterwards the first one drains and the second one stops.
  let onSignal = () => givenUp.abort()
  const listener = () => onSignal()
  process.on('SIGTERM', listener).on('SIGINT', listener)
  try {
    const agent = await startSystemAgent({ options, environment, signal: givenUp.signal })
    if (givenUp.signal.aborted) agent.stop('now')
    let signals = 0
    onSignal = () => {
      signals++
      console.error(signals === 1 ? 'Stopping when what runs has finished. Once more: stop now.' : 'Stopping now.')
      agent.stop(signals === 1 ? 'drain' : 'now')
    }
    const { reason, message } = await agent.ended
    console.error(printable(message))
    return exitCodeOf[reason]
  } finally {
    process.off('SIGTERM', listener).off('SIGINT', listener)
  }
}

function commandContext(command: string): CommandContext {
  const interrupted = new AbortController()
  // A command that waits is given up; one that does not ends by the signal as usual.
  if (command === 'engines' || command === 'doctor') process.once('SIGINT', () => interrupted.abort())
  const program = process.argv[1] ?? fileURLToPath(import.meta.url)
  const words = isThisProgram() ? [] : ['agent']
  return {
    environment: processEnvironment(),
    signal: interrupted.signal,
    invocation: [...invocationOf(process.execPath, process.execArgv, program), ...words],
    print: (text) => console.log(text),
  }
}

/** Whether this file was started itself, rather than loaded by the `orbyte` command. */
function isThisProgram(): boolean {
  const program = process.argv[1]
  return (
    program !== undefined &&
    existsSync(program) &&
    realpathSync(program) === realpathSync(fileURLToPath(import.meta.url))
  )
}

if (isThisProgram()) process.exitCode = await main(process.argv.slice(2))
