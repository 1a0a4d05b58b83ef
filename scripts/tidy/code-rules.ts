import ts from 'typescript'
import type { Offence, Rule } from './rule.ts'
import { descendants, fileName, isTest, lineOf, type SourceFile, stem, workspaceOf } from './source-file.ts'

// What a line of code may do, by where it stands. eslint holds what is the same everywhere.

/** Programs of their own and what serves them: they may look at the machine. */
const outside = ['scripts', 'e2e', 'bench', 'examples', 'web']
const isOutside = (path: string) => isTest(path) || outside.includes(workspaceOf(path)) || path.endsWith('.config.ts')
const isMain = (path: string) => fileName(path) === 'main.ts'
const isConfig = (path: string) => /(^|-)config$/.test(stem(path))
/** This machine's side of a seam: the simulation has another. */
const isSystem = (path: string) => stem(path).startsWith('system-') || path.startsWith('server/src/db/')

const sqlStatement =
  /\b(SELECT\s[\s\S]+\sFROM\s|INSERT\s+(OR\s+\w+\s+)?INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|CREATE\s+(TABLE|INDEX|UNIQUE|TRIGGER|VIEW)\s|ALTER\s+TABLE\s|PRAGMA\s)|^\s*(select\s[\w\s,.*()]+\sfrom\s+\w+\s*($|where|order|group|limit|join)|insert\s+into\s+\w+|update\s+\w+\s+set\s|delete\s+from\s+\w+)/
const timers = ['setTimeout', 'setInterval', 'setImmediate']
const chance = ['randomBytes', 'randomUUID', 'randomInt', 'randomFillSync', 'getRandomValues']
const clockCalls = ['Date.now', 'Math.random', 'performance.now', 'process.hrtime', 'AbortSignal.timeout']

export const codeRules: readonly Rule[] = [
  {
    name: 'environment-in-config',
    says: 'process.env is read in config files only; hand the value in from there.',
    appliesTo: (path) => path.endsWith('.ts') && !isOutside(path) && !isConfig(path),
    find: (file) => matches(file, (node) => memberName(node) === 'process.env'),
  },
  {
    name: 'exit-in-main',
    says: 'process.exit is called in mains only; throw, or return.',
    appliesTo: (path) => path.endsWith('.ts') && !isOutside(path) && !isMain(path) && !isSystem(path),
    find: (file) => matches(file, (node) => memberName(node) === 'process.exit'),
  },
  {
    name: 'sql-in-stores',
    says: 'SQL is written in *-store.ts and db/ only.',
    appliesTo: (path) =>
      path.endsWith('.ts') && !isOutside(path) && !stem(path).endsWith('-store') && !path.startsWith('server/src/db/'),
    find: (file) => matches(file, (node) => isText(node) && sqlStatement.test(node.text)),
  },
  {
    name: 'time-and-chance-from-context',
    says: 'Time, randomness and timers come in through the context (clock.now(), newId(), …), so that a simulation can own them.',
    appliesTo: (path) =>
      /^(server|agent)\/src\//.test(path) &&
      path.endsWith('.ts') &&
      !isTest(path) &&
      !isMain(path) &&
      !isConfig(path) &&
      !isSystem(path),
    find: (file) => [...matches(file, isTimeOrChance), ...timerImports(file)],
  },
  {
    name: 'no-default-exports',
    says: 'Export by name. Only the configuration of a tool has a default export.',
    appliesTo: (path) => path.endsWith('.ts') && !path.endsWith('.config.ts') && workspaceOf(path) !== 'web',
    find: (file) => matches(file, isDefaultExport),
  },
]

function matches(file: SourceFile, isOffence: (node: ts.Node) => boolean): Offence[] {
  if (file.code === null) return []
  const code = file.code
  return [...descendants(code)].filter(isOffence).map((node) => ({
    line: lineOf(code, node),
    detail: node.getText(code).replace(/\s+/g, ' ').slice(0, 60),
  }))
}

/** `process.env`, `process['env']` → "process.env" */
function memberName(node: ts.Node): string | null {
  if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression))
    return `${node.expression.text}.${node.name.text}`
  if (
    ts.isElementAccessExpression(node) &&
    ts.isIdentifier(node.expression) &&
    ts.isStringLiteral(node.argumentExpression)
  )
    return `${node.expression.text}.${node.argumentExpression.text}`
  return null
}

function isTimeOrChance(node: ts.Node): boolean {
  if (ts.isNewExpression(node) && node.expression.getText() === 'Date') return (node.arguments?.length ?? 0) === 0
  if (ts.isPropertyAccessExpression(node))
    return clockCalls.includes(memberName(node) ?? '') || chance.includes(node.name.text)
  if (!ts.isCallExpression(node) || !ts.isIdentifier(node.expression)) return false
  return [...timers, ...chance].includes(node.expression.text)
}

/** `import { setTimeout as sleep } from 'node:timers/promises'` has another name where it is called. */
function timerImports(file: SourceFile): Offence[] {
  return file.imports
    .filter(({ target }) => /^(node:)?timers(\/promises)?$/.test(target))
    .map(({ line, specifier }) => ({ line, detail: specifier }))
}

function isText(node: ts.Node): node is ts.StringLiteralLike | ts.TemplateHead {
  return ts.isStringLiteralLike(node) || ts.isTemplateHead(node)
}

function isDefaultExport(node: ts.Node): boolean {
  if (ts.isExportAssignment(node)) return true
  if (ts.isExportSpecifier(node)) return node.name.text === 'default'
  return ts.canHaveModifiers(node) && !!ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword)
}
