import type { Rule } from './rule.ts'
import { fileName, type Import, isTest, serverFeatureOf, type SourceFile, stem, workspaceOf } from './source-file.ts'

// Who may import whom. Tests may import anything: they stand outside of what they test.

/** What a workspace may import of the others, besides itself. A folder that is not listed may import anything. */
const workspaceImports: Record<string, readonly string[]> = {
  protocol: [],
  sdk: ['protocol'],
  cli: ['protocol', 'sdk'],
  web: ['protocol', 'sdk'],
  server: ['protocol'],
  agent: ['protocol'],
}
/** What `orbyte` becomes when it is asked to: a server, an agent, a checker of ledgers, a keeper of backups. */
const lazyForCli = [
  'server/src/main.ts',
  'agent/src/main.ts',
  'server/src/ledger/ledger-verify.ts',
  'server/src/admin/backup-folder.ts',
  'server/src/admin/backup-keys.ts',
  'server/src/admin/backup-verify.ts',
]
const workspaces = ['protocol', 'sdk', 'cli', 'web', 'server', 'agent']

/** A feature may import those before it. */
const serverFeatures = [
  'db',
  'http',
  'users',
  'ledger',
  'payments',
  'gpus',
  'models',
  'tasks',
  'speeds',
  'scheduler',
  'audits',
  'agents',
  'inference',
  'live',
  'admin',
]
/** What all features stand on: their stores are for every service. */
const ground = ['db', 'http']
const compositionRoots = ['server/src/market.ts', 'server/src/server.ts', 'server/src/main.ts']

/** Decisions and translations: the same input gives the same answer, with nothing else needed to test them. */
const pureFiles = [
  'agent-states',
  'expected-cost',
  'fair-share',
  'fitting',
  'flat-lists',
  'gpu-hardware',
  'gpu-index',
  'gpu-lane',
  'gpu-names',
  'gpu-profile',
  'gpu-search',
  'gpu-slot',
  'gpu-standing',
  'gpu-states',
  'gpu-status',
  'lane-search',
  'ledger-hash',
  'machine-choice',
  'matching',
  'merkle',
  'metering',
  'model-fit',
  'model-holders',
  'money',
  'numbered',
  'openai-translation',
  'output-check',
  'packing',
  'pricing',
  'rankers',
  'receipts',
  'room-penalty',
  'speed-estimate',
  'speed-work',
  'survey',
  'task-mix',
  'task-states',
]
const purePackages = ['zod', 'node:crypto', 'node:assert', 'node:assert/strict']

const isCode = (path: string) => (path.endsWith('.ts') || path.endsWith('.svelte')) && !isTest(path)

function offences(file: SourceFile, isOffence: (imported: Import) => boolean) {
  return file.imports.filter(isOffence).map(({ line, specifier }) => ({ line, detail: specifier }))
}

export const importRules: readonly Rule[] = [
  {
    name: 'workspaces',
    says: 'This part of the product may not know that one; what both need belongs to protocol/.',
    appliesTo: (path) => isCode(path) && workspaceOf(path) in workspaceImports,
    find(file) {
      const own = workspaceOf(file.path)
      const allowed = [own, ...workspaceImports[own]!]
      return offences(file, ({ target, lazy }) => {
        const isLazyMain = own === 'cli' && lazy && lazyForCli.includes(target)
        const isOurs =
          target.includes('/') && [...workspaces, 'dev', 'simulation', 'bench', 'e2e'].includes(workspaceOf(target))
        return isOurs && !isLazyMain && !allowed.includes(workspaceOf(target))
      })
    },
  },
  {
    name: 'workspace-imports',
    says: 'Import another workspace by its name, @orbyte/…, not by a path.',
    appliesTo: (path) => path.endsWith('.ts'),
    find: (file) =>
      offences(file, ({ specifier, target }) => {
        const other = workspaceOf(target)
        return specifier.startsWith('.') && other !== workspaceOf(file.path) && workspaces.includes(other)
      }),
  },
  {
    name: 'server-features',
    says: `Features import leftwards only: ${serverFeatures.join(' ← ')}. Publish an event, or move the function.`,
    appliesTo: (path) => path.startsWith('server/src/') && isCode(path) && !compositionRoots.includes(path),
    find(file) {
      const feature = serverFeatureOf(file.path)
      // Files directly in src/ are known to all features, so they know none but the database's interface.
      const own = feature === null ? serverFeatures.indexOf('db') : serverFeatures.indexOf(feature)
      return offences(file, ({ target }) => {
        if (compositionRoots.includes(target)) return true
        const imported = serverFeatureOf(target)
        return imported !== null && serverFeatures.indexOf(imported) > own
      })
    },
  },
  {
    name: 'known-features',
    says: `A folder of server/src is a feature, and its place in the order is decided in scripts/tidy/import-rules.ts.`,
    appliesTo: (path) => path.startsWith('server/src/') && path.endsWith('.ts'),
    find(file) {
      const feature = serverFeatureOf(file.path)
      return feature === null || serverFeatures.includes(feature) ? [] : [{ line: 1, detail: feature }]
    },
  },
  {
    name: 'routes-service-store',
    says: 'Inside a feature: routes → service → store. Others may import the service, never the store or the routes.',
    appliesTo: (path) => path.startsWith('server/src/') && isCode(path) && !compositionRoots.includes(path),
    find(file) {
      const layers = ['store', 'service', 'routes']
      const layerOf = (path: string) => layers.findIndex((layer) => stem(path).endsWith(`-${layer}`))
      const own = layerOf(file.path)
      return offences(file, ({ target, typeOnly }) => {
        // What a row looks like is no secret of its store.
        if (typeOnly && stem(target).endsWith('-store')) return false
        if (!target.startsWith('server/src/') || layerOf(target) === -1) return false
        if (ground.includes(serverFeatureOf(target) ?? '')) return layers[own] === 'routes'
        const imported = layers[layerOf(target)]
        if (serverFeatureOf(target) !== serverFeatureOf(file.path)) return imported !== 'service'
        if (imported === 'store') return layers[own] === 'routes'
        return own !== -1 && layerOf(target) > own
      })
    },
  },
  {
    name: 'pure-files',
    says: 'This file decides or translates only: it loads pure files, zod and hashes, no clock, database or log.',
    appliesTo: (path) => path.endsWith('.ts') && isCode(path) && pureFiles.includes(stem(path)),
    find: (file) =>
      offences(file, ({ target, typeOnly }) => {
        if (typeOnly || purePackages.includes(target) || workspaceOf(target) === 'protocol') return false
        return !pureFiles.includes(stem(target))
      }),
  },
  {
    name: 'near-imports',
    says: 'An import goes up one folder at most: import the workspace by its name, or move the file.',
    appliesTo: (path) => path.endsWith('.ts'),
    find: (file) => offences(file, ({ specifier }) => specifier.startsWith('../../')),
  },
  {
    name: 'no-barrels',
    says: "Import from the file that has it. Only a workspace's own src/index.ts gathers exports.",
    appliesTo: (path) => isCode(path) && !/^[a-z-]+\/src\/index\.ts$/.test(path),
    find: (file) => (fileName(file.path) === 'index.ts' ? [{ line: 1, detail: 'index.ts' }] : reExports(file)),
  },
]

function reExports(file: SourceFile) {
  const lines = file.text.split('\n')
  return file.imports
    .filter(({ line, lazy }) => !lazy && /^\s*export\b/.test(lines[line - 1]!))
    .map(({ line, specifier }) => ({ line, detail: `export … from '${specifier}'` }))
}
