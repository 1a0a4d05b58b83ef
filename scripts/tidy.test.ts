import { describe, expect, test } from 'vitest'
import { measureFunctions } from './tidy/budget.ts'
import { findUntidiness, readRepository, rules } from './tidy/repository.ts'
import { parseSourceFile } from './tidy/source-file.ts'

test('the repository keeps to its own rules', () => {
  const files = readRepository()
  expect(files.length).toBeGreaterThan(50)
  const findings = findUntidiness(files, new Set(files.map(({ path }) => path)))
  expect(findings.map(({ text }) => text)).toEqual([])
})

type Example = readonly [path: string, text: string]

/** For each rule, what it refuses and what it lets pass. */
const examples: Record<string, { refused: readonly Example[]; allowed: readonly Example[] }> = {
  workspaces: {
    refused: [
      ['sdk/src/client.ts', "import { startServer } from '@orbyte/server'"],
      ['server/src/server.ts', "import { connect } from '@orbyte/agent/connection.ts'"],
      ['agent/src/agent.ts', "import type { Client } from '@orbyte/sdk'"],
      ['protocol/src/money.ts', "export type { Client } from '@orbyte/sdk'"],
      ['cli/src/main.ts', "import { main } from '@orbyte/server/main.ts'"],
      ['cli/src/serve.ts', "await import('@orbyte/server/users/user-store.ts')"],
      ['server/src/server.ts', "import { network } from '../../dev/network.ts'"],
      [
        'web/src/components/row.svelte',
        '<script lang="ts">\n  import { startServer } from "@orbyte/server"\n</script>',
      ],
    ],
    allowed: [
      ['cli/src/serve.ts', "await import('@orbyte/server/main.ts')"],
      ['cli/src/gpus.ts', "import { createClient } from '@orbyte/sdk'"],
      ['server/src/server.ts', "import { api } from '@orbyte/protocol'"],
      ['dev/network.ts', "import { startServer } from '@orbyte/server'"],
      ['sdk/src/client.test.ts', "import { startServer } from '@orbyte/server'"],
    ],
  },
  'workspace-imports': {
    refused: [['e2e/demo.test.ts', "import { startServer } from '../server/src/server.ts'"]],
    allowed: [['e2e/demo.test.ts', "import { network } from '../dev/network.ts'"]],
  },
  'server-features': {
    refused: [
      ['server/src/ledger/ledger-service.ts', "import { payTask } from '../payments/payment-service.ts'"],
      ['server/src/db/database.ts', "import type { Reply } from '../http/reply.ts'"],
      ['server/src/events.ts', "import { userService } from './users/user-service.ts'"],
      ['server/src/admin/admin-service.ts', "import { startServer } from '../server.ts'"],
    ],
    allowed: [
      ['server/src/payments/payment-service.ts', "import { holdFunds } from '../ledger/ledger-service.ts'"],
      ['server/src/users/user-service.ts', "import type { Context } from '../context.ts'"],
      ['server/src/context.ts', "import type { Database } from './db/database.ts'"],
      ['server/src/server.ts', "import { adminRoutes } from './admin/admin-routes.ts'"],
    ],
  },
  'known-features': {
    refused: [['server/src/rentals/rental-service.ts', '']],
    allowed: [['server/src/gpus/gpu-service.ts', '']],
  },
  'routes-service-store': {
    refused: [
      ['server/src/gpus/gpu-routes.ts', "import { insertGpu } from './gpu-store.ts'"],
      ['server/src/gpus/gpu-store.ts', "import { listGpus } from './gpu-service.ts'"],
      ['server/src/gpus/gpu-service.ts', "import { gpuRoutes } from './gpu-routes.ts'"],
      ['server/src/tasks/task-service.ts', "import { insertGpu } from '../gpus/gpu-store.ts'"],
    ],
    allowed: [
      ['server/src/gpus/gpu-routes.ts', "import { listGpus } from './gpu-service.ts'"],
      ['server/src/gpus/gpu-service.ts', "import { insertGpu } from './gpu-store.ts'"],
      ['server/src/tasks/task-service.ts', "import { listGpus } from '../gpus/gpu-service.ts'"],
      ['server/src/tasks/task-service.ts', "import type { StoredGpu } from '../gpus/gpu-store.ts'"],
      ['server/src/tasks/task-service.ts', "import { findReply } from '../http/idempotency-store.ts'"],
    ],
  },
  'pure-files': {
    refused: [
      ['server/src/scheduler/matching.ts', "import { readFile } from 'node:fs/promises'"],
      ['server/src/ledger/merkle.ts', "import { newId } from '../context.ts'"],
    ],
    allowed: [
      ['server/src/ledger/merkle.ts', "import { createHash } from 'node:crypto'"],
      ['server/src/scheduler/matching.ts', "import type { Gpu } from '../gpus/gpu-service.ts'"],
      ['server/src/scheduler/matching.ts', "import { costOf } from '../tasks/pricing.ts'"],
    ],
  },
  'near-imports': {
    refused: [['agent/src/executors/onnx/session.ts', "import { connect } from '../../connection.ts'"]],
    allowed: [['agent/src/executors/llama-executor.ts', "import { connect } from '../connection.ts'"]],
  },
  'no-barrels': {
    refused: [
      ['server/src/gpus/index.ts', 'export const gpus = 1'],
      ['server/src/gpus/gpu-service.ts', "export * from './gpu-store.ts'"],
    ],
    allowed: [['sdk/src/index.ts', "export * from './client.ts'"]],
  },
  'environment-in-config': {
    refused: [
      ['server/src/users/user-service.ts', "const secret = process.env['SECRET_KEY']"],
      ['agent/src/agent.ts', "const { HOME } = process['env']"],
    ],
    allowed: [
      ['server/src/config.ts', "const secret = process.env['SECRET_KEY']"],
      ['scripts/demo.ts', 'const { PATH } = process.env'],
    ],
  },
  'exit-in-main': {
    refused: [['agent/src/agent.ts', 'process.exit(1)']],
    allowed: [['agent/src/main.ts', 'process.exit(1)']],
  },
  'sql-in-stores': {
    refused: [
      ['server/src/gpus/gpu-service.ts', 'tx.all(`SELECT *\n FROM gpus WHERE id = ${id}`)'],
      ['server/src/gpus/gpu-service.ts', "tx.run('update gpus set status = ?')"],
      ['server/src/server.ts', "database.run('PRAGMA user_version')"],
    ],
    allowed: [
      ['server/src/gpus/gpu-store.ts', "tx.all('SELECT * FROM gpus')"],
      ['cli/src/gpus.ts', "const help = 'Select a GPU from the list, or insert a token.'"],
    ],
  },
  'time-and-chance-from-context': {
    refused: [
      ['server/src/tasks/task-service.ts', 'const now = Date.now()'],
      ['server/src/tasks/task-service.ts', 'const now = new Date()'],
      ['server/src/tasks/task-service.ts', 'const tie = Math.random()'],
      ['server/src/tasks/task-service.ts', 'setTimeout(expire, 1_000)'],
      ['server/src/tasks/task-service.ts', "import { randomUUID } from 'node:crypto'\nconst id = randomUUID()"],
      ['agent/src/connection.ts', "import { setTimeout as sleep } from 'node:timers/promises'"],
      ['agent/src/connection.ts', 'await fetch(url, { signal: AbortSignal.timeout(5_000) })'],
    ],
    allowed: [
      ['server/src/tasks/task-service.ts', 'const at = new Date(context.clock.now())'],
      ['agent/src/system-clock.ts', 'const now = Date.now()'],
      ['server/src/main.ts', 'const now = Date.now()'],
      ['cli/src/progress.ts', 'setInterval(draw, 100)'],
    ],
  },
  'no-default-exports': {
    refused: [
      ['sdk/src/client.ts', 'export default function client() {}'],
      ['sdk/src/client.ts', 'const client = 1\nexport default client'],
      ['sdk/src/client.ts', 'const client = 1\nexport { client as default }'],
    ],
    allowed: [['vitest.config.ts', 'export default {}']],
  },
  'file-length': {
    refused: [['sdk/src/client.ts', 'const line = 1\n'.repeat(401)]],
    allowed: [['sdk/src/client.ts', 'const line = 1\n'.repeat(400)]],
  },
  'component-length': {
    refused: [['web/src/components/list.svelte', '<p>line</p>\n'.repeat(251)]],
    allowed: [['web/src/components/list.svelte', '<p>line</p>\n'.repeat(250)]],
  },
  'tokens-not-colours': {
    refused: [
      ['web/src/components/mark.svelte', '<p class="bg-[#fff]">white</p>'],
      ['web/src/components/mark.svelte', '<rect fill="oklch(0.5 0.1 20)" />'],
    ],
    allowed: [['web/src/components/mark.svelte', '<p class="bg-surface">{#if isWhite}#1{/if}</p>']],
  },
  'function-length': {
    refused: [
      ['sdk/src/client.ts', `export function long() {\n${'call()\n'.repeat(69)}}`],
      ['sdk/src/client.ts', `export const long = () => {\n${'call()\n'.repeat(69)}}`],
      ['sdk/src/client.ts', `export function long() {\n  list.map(() => {\n${'call()\n'.repeat(67)}})\n}`],
    ],
    allowed: [
      ['sdk/src/client.ts', `export function long() {\n${'call()\n'.repeat(68)}}`],
      ['sdk/src/client.test.ts', `describe('it', () => {\n${"test('is', () => {\n  call()\n})\n".repeat(30)}})`],
    ],
  },
  'file-names': {
    refused: [
      ['server/src/gpus/GpuStore.ts', ''],
      ['server/src/gpus/gpu_store.ts', ''],
      ['server/src/utils/text.ts', ''],
      ['agent/src/helpers.ts', ''],
      ['agent/src/job-runner.ts', ''],
      ['agent/src/gpu-manager.ts', ''],
    ],
    allowed: [['server/src/gpus/gpu-store.test.ts', '']],
  },
  'flat-folders': {
    refused: [['agent/src/executors/onnx/sessions/session.ts', '']],
    allowed: [['agent/src/executors/onnx/session.ts', '']],
  },
  'no-lonely-files': {
    refused: [['agent/src/sandbox/bubblewrap.ts', '']],
    allowed: [['agent/src/agent.ts', '']],
  },
  'nothing-to-do-later': {
    refused: [
      ['agent/src/agent.ts', '// TODO: reconnect'],
      ['docs/guides/agent.md', 'FIXME'],
    ],
    allowed: [['agent/src/agent.ts', '// All that is to do is done.']],
  },
  'no-paths-of-a-machine': {
    refused: [
      ['docs/guides/agent.md', `cd ${['', 'root', 'orbyte'].join('/')}`],
      ['scripts/demo.ts', `const models = '${['', 'work', 'models'].join('/')}'`],
    ],
    allowed: [['docs/guides/agent.md', 'see https://example.com/work/orbyte and ./root/orbyte']],
  },
  'no-registry-hosts': {
    refused: [
      ['package-lock.json', '      "resolved": "https://registry.example.com/zod/-/zod-4.6.7.tgz",'],
      ['.npmrc', 'registry=https://registry.example.com'],
    ],
    allowed: [['package-lock.json', '      "resolved": "protocol",']],
  },
}

test('every rule has examples', () => {
  expect(Object.keys(examples).sort()).toEqual(rules.map(({ name }) => name).sort())
})

describe.each(Object.entries(examples))('the rule %s', (name, { refused, allowed }) => {
  const rulesBrokenBy = ({ path, text }: { path: string; text: string }) =>
    findUntidiness([parseSourceFile(path, text)], new Set([path])).map(({ rule }) => rule)
  const titled = (list: readonly Example[]) =>
    list.map(([path, text]) => ({ path, text, start: text.slice(0, 60).replaceAll('\n', ' ') }))

  test.each(titled(refused))('refuses in $path: $start', (example) => expect(rulesBrokenBy(example)).toContain(name))
  test.each(titled(allowed))('allows in $path: $start', (example) => expect(rulesBrokenBy(example)).not.toContain(name))
})

test('a folder with two files is none too many, and one with a folder below it neither', () => {
  const file = parseSourceFile('agent/src/sandbox/bubblewrap.ts', '')
  const rulesBroken = (...others: string[]) =>
    findUntidiness([file], new Set([file.path, ...others])).map(({ rule }) => rule)
  expect(rulesBroken('agent/src/sandbox/podman.ts')).toEqual([])
  expect(rulesBroken('agent/src/gpus/nvidia.ts')).toEqual(['no-lonely-files'])
})

test('a function is as long as its lines, without those of the named functions in it', () => {
  const text =
    'function outer() {\n  list.map((each) => {\n    call(each)\n  })\n  function inner() {\n    call()\n  }\n}'
  expect(measureFunctions(parseSourceFile('sdk/src/client.ts', text))).toEqual([
    { name: 'outer', line: 1, lines: 6 },
    { name: 'list.map(…)', line: 2, lines: 3 },
    { name: 'inner', line: 5, lines: 3 },
  ])
})
