import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { listEndpoints } from '@orbyte/protocol'
import { createTestCli } from 'orbyte/fixture-cli.ts'

// What the documents say can be done, can be done: commands, scripts, endpoints, files and links.

const repository = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(repository, path), 'utf8')
const markdownIn = (folder: string) =>
  readdirSync(join(repository, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => posix.join(folder, name))

const documents = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  'docs/dependencies.md',
  'bench/README.md',
  ...markdownIn('docs/guides'),
  ...markdownIn('docs/decisions'),
].map((path) => ({ path, text: read(path) }))
const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }

test.for(documents)('$path names npm scripts that exist', ({ text }) => {
  const named = codeOf(text).flatMap((code) => [...code.matchAll(/\bnpm (?:run ([\w:-]+)|(test|start)\b)/g)])
  const unknown = named.map(([, script, short]) => script ?? short!).filter((script) => !(script in scripts))
  expect(unknown).toEqual([])
})

test('the README tells what every script is for', () => {
  const readme = read('README.md')
  const untold = Object.keys(scripts).filter(
    (script) =>
      script !== 'postinstall' && !readme.includes(`npm run ${script}`) && !readme.includes(`npm ${script}\``),
  )
  expect(untold).toEqual([])
})

test.for(documents)('$path names files and folders that exist', ({ text }) => {
  const top = /^(\.ci|agent|bench|cli|dev|docs|e2e|examples|models|protocol|scripts|sdk|server)\/[\w./-]*$/
  const paths = codeOf(text).flatMap((code) => code.split(/[\s"'()]+/).filter((word) => top.test(word)))
  expect(paths.filter((path) => !path.includes('NAME') && !existsSync(join(repository, path)))).toEqual([])
})

test.for(documents)('$path has links that lead somewhere', ({ path, text }) => {
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!)
  const local = links.filter((link) => !/^[a-z]+:/.test(link)).map((link) => link.split('#')[0]!)
  expect(local.filter((link) => !existsSync(join(repository, dirname(path), link)))).toEqual([])
})

test.for(documents)('$path names endpoints that the contract has', ({ text }) => {
  const known = new Set(listEndpoints().map(({ endpoint }) => operation(endpoint.method, endpoint.path)))
  for (const path of ['/api/docs', '/api/openapi.json']) known.add(operation('GET', path))
  const named = [...text.matchAll(/\b(GET|POST|PUT|PATCH|DELETE) (\/api\/[\w/{}.-]+)/g)]
  expect(named.filter(([, method, path]) => !known.has(operation(method!, path!))).map(([whole]) => whole)).toEqual([])
})

test('the README’s settings are in the configuration reference', () => {
  const reference = read('docs/reference/configuration.md')
  const settings = [...read('README.md').matchAll(/^\| `([A-Z_]+)`/gm)].map(([, name]) => name!)
  expect(settings.length).toBeGreaterThan(3)
  expect(settings.filter((name) => !reference.includes(`| \`${name}\``))).toEqual(['VITE_API_BASE_URL'])
})

test.for(commandsOf(documents.map(({ text }) => text)))('orbyte $line can be written so', async ({ words, flags }) => {
  const orbyte = createTestCli('http://127.0.0.1:9')
  const { code, stdout } = await orbyte([...words, '--help'])
  expect(code).toBe(0)
  const [, own] = words
  // The agent's own commands share one help text.
  const usage = stdout.startsWith('Usage: orbyte agent COMMAND')
    ? new RegExp(`^  ${own}\\b`, 'm')
    : new RegExp(`^Usage: ${['orbyte', ...words].join(' ')}( |$)`, 'm')
  expect(stdout).toMatch(usage)
  expect(flags.filter((flag) => !new RegExp(`(^|[\\s,[])${flag}\\b`, 'm').test(stdout))).toEqual([])
})

type CommandLine = { line: string; words: string[]; flags: string[] }

/** Each `orbyte …` once: the words that name a command, and the options. */
function commandsOf(texts: string[]): CommandLine[] {
  const calls = /(?:^|[\s|])(?:orbyte|node dist\/orbyte\.js|npx -y \S+\.tgz) ([^|>&]*)/g
  const lines = texts.flatMap((text) =>
    codeOf(text).flatMap((code) => [...code.matchAll(calls)].map(([, line]) => line!)),
  )
  const commands = lines.map((line) => {
    const parts = line
      .replaceAll(/"[^"]*"/g, '"…"')
      .trim()
      .split(/\s+/)
    // "last" stands where an id may stand.
    const firstOther = parts.findIndex((part) => part === 'last' || !/^[a-z][a-z-]*$/.test(part))
    const words = firstOther === -1 ? parts : parts.slice(0, firstOther)
    const flags = parts.filter((part) => part.startsWith('--') && part !== '--help').map((flag) => flag.split('=')[0]!)
    return { line: [...words, ...new Set(flags)].join(' '), words, flags }
  })
  return [...new Map(commands.map((command) => [command.line, command])).values()]
}

/** What stands in code: lines of fenced blocks, and spans in the text. */
function codeOf(text: string): string[] {
  const fences = /^ *```[^\n]*\n([\s\S]*?)^ *```$/gm
  const blocks = [...text.matchAll(fences)].flatMap(([, block]) => block!.replaceAll(/\\\n\s*/g, '').split('\n'))
  const spans = [...text.replaceAll(fences, '').matchAll(/`([^`]+)`/g)].map(([, span]) => span!.replaceAll(/\s+/g, ' '))
  return [...blocks, ...spans]
}

function operation(method: string, path: string): string {
  return `${method} ${path.replace(/[/.]+$/, '').replaceAll(/\{\w+\}/g, '{}')}`
}
