import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { createTextStream } from './follow.ts'
import { createTerminal } from './terminal.ts'

function textStream({ isTty = false } = {}) {
  const written = { stdout: '', stderr: '' }
  const stream = (name: keyof typeof written) =>
    Object.assign(
      new Writable({
        write(chunk, _encoding, done) {
          written[name] += String(chunk)
          done()
        },
      }),
      { isTTY: isTty, columns: 80 },
    )
  const streams = { stdin: process.stdin, stdout: stream('stdout'), stderr: stream('stderr') }
  const terminal = createTerminal(streams as never, { colour: false })
  return { written, text: createTextStream({ terminal }, { clear: () => {} }) }
}

test('text goes out as it comes, and its last line is ended', () => {
  const { written, text } = textStream()
  text.reset()
  text.write('Once ')
  expect(written.stdout).toBe('Once ')
  text.write('upon')
  text.end()
  expect(written).toEqual({ stdout: 'Once upon\n', stderr: '' })
})

test('an attempt that repeats what was written goes on where the one before had stopped', () => {
  const { written, text } = textStream()
  text.write('Once upon')
  text.reset()
  text.write('Once')
  text.write(' upon a')
  text.write(' time\n')
  text.end()
  expect(written).toEqual({ stdout: 'Once upon a time\n', stderr: '' })
})

test('an attempt that writes something else begins on a new line, and it is said', () => {
  const { written, text } = textStream()
  text.write('Once upon')
  text.reset()
  text.write('Once in')
  text.write(' May')
  text.end()
  expect(written.stdout).toBe('Once upon\nOnce in May\n')
  expect(written.stderr).toContain('the text above is void')
})

test('a person’s terminal is not driven by what a task writes, a pipe gets every byte', () => {
  const evil = 'a\u001b[2Jb'
  const person = textStream({ isTty: true })
  person.text.write(evil)
  expect(person.written.stdout).toBe('a[2Jb')
  const pipe = textStream()
  pipe.text.write(evil)
  expect(pipe.written.stdout).toBe(evil)
})
