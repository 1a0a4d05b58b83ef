import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { createTerminal } from './terminal.ts'

function terminalOn({ isTTY }: { isTTY: boolean }) {
  const streams = { stdin: process.stdin, stdout: new PassThrough(), stderr: new PassThrough() }
  for (const stream of [streams.stdout, streams.stderr]) Object.assign(stream, { isTTY, columns: 80 })
  const terminal = createTerminal(streams as never, { colour: true })
  return { terminal, written: () => [streams.stdout, streams.stderr].map((stream) => String(stream.read())) }
}

const evil = 'a\u001b]52;c;ZXZpbA==\u0007\u001b[2J\rb\u009b31m\u202Ec\n\td'

test('whatever a person is shown, only our own colours drive the terminal', () => {
  const { terminal, written } = terminalOn({ isTTY: true })
  terminal.print(terminal.paint('red', evil))
  terminal.say(terminal.tint('bold', evil))
  const harmless = 'a]52;c;ZXZpbA==[2Jb31mc\n\td'
  expect(written()).toEqual([`\u001b[31m${harmless}\u001b[39m\n`, `\u001b[1m${harmless}\u001b[22m\n`])
})

test('a pipe gets every byte', () => {
  const { terminal, written } = terminalOn({ isTTY: false })
  terminal.print(evil)
  terminal.say(evil)
  expect(written()).toEqual([`${evil}\n`, `${evil}\n`])
})
