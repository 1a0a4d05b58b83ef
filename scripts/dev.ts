import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { repository } from './stamps.mjs'

// The whole product for development: the market with its agents and people, restarted on every change of a source, and the web
// app beside it, which changes in the open page.

const port = process.env['PORT'] ?? '8000'
const children = [
  run(['node_modules/tsx/dist/cli.mjs', 'watch', '--exclude', 'web', 'dev/main.ts'], repository, { PORT: port }),
  run([join(repository, 'node_modules/vite/bin/vite.js'), 'dev', '--clearScreen', 'false'], join(repository, 'web'), {
    VITE_API_BASE_URL: process.env['VITE_API_BASE_URL'] ?? `http://127.0.0.1:${port}/api`,
  }),
]

let stopping = false
for (const child of children) child.on('exit', (code) => stop(code ?? 0))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop(0))

function run(command: string[], cwd: string, env: Record<string, string>): ChildProcess {
  return spawn(process.execPath, command, { cwd, env: { ...process.env, ...env }, stdio: 'inherit' })
}

/** Neither is of use without the other. */
function stop(code: number) {
  if (stopping) return
  stopping = true
  process.exitCode = code
  for (const child of children) if (child.exitCode === null) child.kill('SIGTERM')
}
