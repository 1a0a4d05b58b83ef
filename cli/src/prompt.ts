import { passwordCharactersMin } from '@orbyte/protocol'
import { CliError, exitCodes } from './exit-codes.ts'
import type { Terminal } from './terminal.ts'

/** A line that a person types. `hidden`: without echo, for passwords. */
export function ask(terminal: Terminal, question: string, { hidden = false } = {}): Promise<string> {
  const { stdin, stderr } = terminal
  if (stdin.isTTY !== true)
    throw new CliError(
      `${question.replace(/:\s*$/, '')}: there is no terminal to ask at. ${hidden ? 'Pipe it in, with --password-stdin.' : 'Give it on the command line.'}`,
      exitCodes.usage,
    )
  stderr.write(question)
  return new Promise((resolve, reject) => {
    let line = ''
    const finish = (settle: () => void) => {
      stdin.off('data', take)
      stdin.setRawMode(false)
      stdin.pause()
      stderr.write('\n')
      settle()
    }
    const take = (data: string) => {
      const before = line
      const typed = typeInto(line, data)
      line = typed.line
      if (!hidden) stderr.write(echoOf(before, line))
      if (typed.end === 'entered') finish(() => resolve(line))
      if (typed.end === 'interrupted') finish(() => reject(new CliError('Interrupted.', exitCodes.interrupted)))
    }
    stdin.setEncoding('utf8')
    stdin.setRawMode(true)
    stdin.resume()
    stdin.on('data', take)
  })
}

type Typed = { line: string; end: 'entered' | 'interrupted' | null }

/** What keys do to a line: Enter, Ctrl-C, Ctrl-D, Backspace, Ctrl-U. Arrows and the like do nothing. */
export function typeInto(line: string, keys: string): Typed {
  // eslint-disable-next-line no-control-regex -- escape sequences begin with a control character
  for (const key of keys.replace(/\u001b(\[[\d;]*[A-Za-z~]|O[A-Z])?/g, '')) {
    if (key === '\r' || key === '\n') return { line, end: 'entered' }
    if (key === '\u0003') return { line, end: 'interrupted' }
    if (key === '\u0004') return line === '' ? { line, end: 'interrupted' } : { line, end: 'entered' }
    if (key === '\u007f' || key === '\b') line = [...line].slice(0, -1).join('')
    else if (key === '\u0015') line = ''
    else if (key >= ' ') line += key
  }
  return { line, end: null }
}

function echoOf(before: string, after: string): string {
  if (after.startsWith(before)) return after.slice(before.length)
  return '\b \b'.repeat([...before].length) + after
}

/** All of standard input: a password or a prompt that is piped in. */
export async function readStdin(terminal: Terminal): Promise<string> {
  const pieces: Buffer[] = []
  for await (const piece of terminal.stdin) pieces.push(piece as Buffer)
  return Buffer.concat(pieces).toString('utf8')
}

type PasswordOptions = { passwordStdin?: boolean; twice?: boolean; question?: string }

export async function readPassword(
  terminal: Terminal,
  { passwordStdin, twice, question = 'Password: ' }: PasswordOptions,
): Promise<string> {
  if (passwordStdin) return (await readStdin(terminal)).replace(/\r?\n$/, '')
  const password = await ask(terminal, question, { hidden: true })
  if (twice && password.length < passwordCharactersMin)
    throw new CliError(`A password has at least ${passwordCharactersMin} characters. Try again.`, exitCodes.usage)
  if (twice && (await ask(terminal, 'Again: ', { hidden: true })) !== password)
    throw new CliError('The two passwords differ. Nothing was changed; try again.', exitCodes.usage)
  return password
}
