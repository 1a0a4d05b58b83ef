import { spawn } from 'node:child_process'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { delimiter, dirname, join, relative } from 'node:path'
import { repository } from './stamps.mjs'

// Everything that is checked before a change is taken. Every step runs, so that one run tells all there is to mend.
//
//   npm run verify [-- --also-with PATH-OF-ANOTHER-NODE]
//
// The last lines say which tests failed, and count: tests, once for each Node that ran them, and each other step that failed.

type Outcome = Counts & { readonly name: string; readonly seconds: number }
/** `failures`: which tests, and what they said. */
type Counts = { readonly passed: number; readonly failed: number; readonly failures: readonly string[] }
type Report = { numPassedTests: number; numFailedTests: number; testResults: FileReport[] }
type FileReport = { name: string; status: string; message: string; assertionResults: TestReport[] }
type TestReport = { status: string; fullName: string; failureMessages: string[] }

const node = process.execPath
const otherNode = process.argv[2] === '--also-with' ? process.argv[3] : undefined
const reports = join(repository, 'test-results')

await mkdir(reports, { recursive: true })
const outcomes = [
  await step('format', ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level', 'warn', '.']),
  await step('lint', ['node_modules/eslint/bin/eslint.js', '.']),
  await step('types', ['node_modules/typescript/bin/tsc']),
  await step('types of the web app', [
    'node_modules/svelte-check/bin/svelte-check',
    '--workspace',
    'web',
    '--tsconfig',
    'tsconfig.json',
  ]),
  await step('tidy', ['--import', 'tsx', 'scripts/tidy.ts']),
  await step('generated files', ['--import', 'tsx', 'scripts/generate.ts', '--check']),
  await step('build', ['scripts/ensure.mjs', '--build']),
  await testStep('tests', { program: node }),
  ...(otherNode === undefined
    ? []
    : [
        // The web app runs in a browser, whichever Node is beside it.
        await testStep('tests on the other Node', { program: otherNode, without: 'e2e/web-*.test.ts' }),
      ]),
]

console.log('')
for (const { name, seconds, passed, failed } of outcomes)
  console.log(
    `${failed > 0 ? 'FAILED' : 'ok    '}  ${name.padEnd(24)} ${seconds.toFixed(1).padStart(7)} s  ${passed > 0 ? passed : ''}`,
  )
for (const { failures } of outcomes) for (const failure of failures) console.log(failure)
const sum = (key: 'passed' | 'failed') => outcomes.reduce((total, outcome) => total + outcome[key], 0)
console.log(`${sum('passed')} passed, ${sum('failed')} failed`)
process.exitCode = sum('failed') === 0 ? 0 : 1

async function step(name: string, command: readonly string[]): Promise<Outcome> {
  const { ok, seconds } = await run(name, node, command)
  return { name, seconds, passed: 0, failed: ok ? 0 : 1, failures: [] }
}

async function testStep(name: string, { program, without }: { program: string; without?: string }): Promise<Outcome> {
  const report = join(reports, `${name.replaceAll(' ', '-')}.json`)
  await rm(report, { force: true })
  const { ok, seconds } = await run(name, program, [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...(without === undefined ? [] : ['--exclude', without]),
  ])
  const { passed, failed, failures } = await readReport(report)
  // A test file that cannot be loaded, or a run that breaks off, has no failed test to show for it.
  return { name, seconds, passed, failed: failed === 0 && (!ok || passed === 0) ? 1 : failed, failures }
}

async function readReport(path: string): Promise<Counts> {
  const text = await readFile(path, 'utf8').catch(() => null)
  if (text === null) return { passed: 0, failed: 0, failures: [] }
  const { numPassedTests, numFailedTests, testResults } = JSON.parse(text) as Report
  return { passed: numPassedTests, failed: numFailedTests, failures: testResults.flatMap(failuresOf) }
}

/** Each test of a file that failed, or why the file could not be loaded, with the first lines of what it said. */
function failuresOf({ name, status, message, assertionResults }: FileReport): string[] {
  const path = relative(repository, name)
  const failed = assertionResults.filter((test) => test.status === 'failed')
  if (failed.length === 0) return status === 'failed' ? [`FAILED  ${path}\n${beginningOf(message)}`] : []
  return failed.map(
    ({ fullName, failureMessages }) => `FAILED  ${path} > ${fullName}\n${beginningOf(failureMessages[0])}`,
  )
}

function beginningOf(text = ''): string {
  const lines = text.split('\n').slice(0, 4)
  return lines.map((line) => `        ${line.slice(0, 300)}`).join('\n')
}

async function run(name: string, program: string, command: readonly string[]) {
  console.log(`\n── ${name}`)
  const startMs = performance.now()
  // What a test starts as `node` is the same Node that runs the test.
  const env = { ...process.env, PATH: [dirname(program), process.env['PATH']].join(delimiter) }
  const child = spawn(program, command, { cwd: repository, env, stdio: 'inherit' })
  const ok = await new Promise<boolean>((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code) => resolve(code === 0))
  })
  return { ok, seconds: (performance.now() - startMs) / 1000 }
}
