import { posix } from 'node:path'
import ts from 'typescript'

export type SourceFile = {
  /** From the repository's root, with forward slashes. */
  readonly path: string
  readonly text: string
  /** Null for anything but TypeScript and components. */
  readonly code: ts.SourceFile | null
  readonly imports: readonly Import[]
}

export type Import = {
  readonly line: number
  /** As it is written. */
  readonly specifier: string
  /** A path in this repository, or the name of a package or of one of Node's modules. */
  readonly target: string
  readonly typeOnly: boolean
  readonly lazy: boolean
}

export function parseSourceFile(path: string, text: string): SourceFile {
  if (!path.endsWith('.ts') && !path.endsWith('.svelte')) return { path, text, code: null, imports: [] }
  const script = path.endsWith('.svelte') ? scriptOf(text) : text
  const code = ts.createSourceFile(path, script, ts.ScriptTarget.Latest, true, ts.ScriptKind.TS)
  return { path, text, code, imports: importsOf(path, code) }
}

/** What of a component is TypeScript, on the lines where it stands. */
function scriptOf(text: string): string {
  let isScript = false
  return text
    .split('\n')
    .map((line) => {
      const isTag = /^<\/?script\b/.test(line)
      if (isTag) isScript = !line.startsWith('</')
      return isScript && !isTag ? line : ''
    })
    .join('\n')
}

export function lineOf(code: ts.SourceFile, node: ts.Node): number {
  return code.getLineAndCharacterOfPosition(node.getStart(code)).line + 1
}

/** Every node below `node`, parents first. */
export function* descendants(node: ts.Node): Generator<ts.Node> {
  const children: ts.Node[] = []
  ts.forEachChild(node, (child) => void children.push(child))
  for (const child of children) {
    yield child
    yield* descendants(child)
  }
}

/** Tests, the suites that they share, and the programs that they start. */
export const isTest = (path: string) => /(\.test|-suite)\.ts$/.test(path) || /(^|\/)fixture-[^/]+\.ts$/.test(path)
export const fileName = (path: string) => posix.basename(path)
/** "tasks/task-store.ts" → "task-store" */
export const stem = (path: string) => fileName(path).replace(/(\.[a-z]+)+$/, '')
/** "server/src/tasks/task-store.ts" → "server" */
export const workspaceOf = (path: string) => path.split('/', 1)[0]!
/** "server/src/tasks/task-store.ts" → "tasks"; null for a file directly in src/ or outside the server. */
export function serverFeatureOf(path: string): string | null {
  return /^server\/src\/([^/]+)\//.exec(path)?.[1] ?? null
}

function importsOf(path: string, code: ts.SourceFile): Import[] {
  const imports: Import[] = []
  const add = (node: ts.Node, specifier: ts.Expression | undefined, kind: Pick<Import, 'typeOnly' | 'lazy'>) => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier)) return
    const target = resolveTarget(path, specifier.text)
    imports.push({ line: lineOf(code, node), specifier: specifier.text, target, ...kind })
  }
  for (const node of descendants(code)) {
    if (ts.isImportDeclaration(node)) add(node, node.moduleSpecifier, { typeOnly: isTypeImport(node), lazy: false })
    else if (ts.isExportDeclaration(node)) add(node, node.moduleSpecifier, { typeOnly: node.isTypeOnly, lazy: false })
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node, node.arguments[0], { typeOnly: false, lazy: true })
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      add(node, node.argument.literal as ts.Expression, { typeOnly: true, lazy: false })
  }
  return imports
}

/** Also `import { type A, type B } from …` loads nothing. */
function isTypeImport({ importClause }: ts.ImportDeclaration): boolean {
  if (importClause === undefined) return false
  if (importClause.isTypeOnly) return true
  const named = importClause.namedBindings
  if (importClause.name !== undefined || named === undefined || !ts.isNamedImports(named)) return false
  return named.elements.length > 0 && named.elements.every((element) => element.isTypeOnly)
}

function resolveTarget(path: string, specifier: string): string {
  if (specifier.startsWith('.')) return posix.normalize(posix.join(posix.dirname(path), specifier))
  const workspace = /^@orbyte\/([^/]+)(?:\/(.+))?$/.exec(specifier)
  return workspace ? `${workspace[1]}/src/${workspace[2] ?? 'index.ts'}` : specifier
}
