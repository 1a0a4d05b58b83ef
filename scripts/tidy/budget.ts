import ts from 'typescript'
import { descendants, isTest, lineOf, type SourceFile } from './source-file.ts'

export type MeasuredFunction = { readonly name: string; readonly line: number; readonly lines: number }

/**
 * Functions and their lines. A function with a name counts by itself and not in the function around it: what makes a
 * service is a list of named functions, as a class would be. What describes tests is such a list too.
 */
export function measureFunctions(file: SourceFile): MeasuredFunction[] {
  if (file.code === null) return []
  const code = file.code
  return [...descendants(code)].filter(hasBody).flatMap((node) => {
    if (isGivenTo(node, /^describe\b/)) return []
    const apart = countedApart(node).reduce((sum, inner) => sum + linesOf(code, inner) - 1, 0)
    return [{ name: nameOf(node), line: lineOf(code, node), lines: linesOf(code, node) - apart }]
  })
}

/** The report of sizes that `npm run check` prints. */
export function budgetReport(files: readonly SourceFile[]): string {
  const code = files.filter(({ code }) => code !== null)
  const rows = [
    ...sizeRows(
      'product',
      code.filter(({ path }) => !isTest(path)),
    ),
    ...sizeRows(
      'tests',
      code.filter(({ path }) => isTest(path)),
    ),
  ]
  const share = commentShare(code.filter(({ path }) => !isTest(path)))
  return [
    'lines in                 number  median  90 %  longest',
    ...rows,
    `comments: ${(share * 100).toFixed(1)} % of the product's lines (6 to 15 % is usual here)`,
  ].join('\n')
}

function sizeRows(kind: string, files: readonly SourceFile[]): string[] {
  const fileSizes = files.map(({ path, text }) => ({ size: text.trimEnd().split('\n').length, where: path }))
  const functionSizes = files.flatMap((file) =>
    measureFunctions(file).map(({ lines, name, line }) => ({ size: lines, where: `${name} (${file.path}:${line})` })),
  )
  return [row(`${kind}: files`, fileSizes), row(`${kind}: functions`, functionSizes)]
}

function row(title: string, sizes: { size: number; where: string }[]): string {
  const sorted = [...sizes].sort((a, b) => a.size - b.size)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
  const longest = sorted.at(-1)
  const cells = [sorted.length, at(0.5)?.size ?? 0, at(0.9)?.size ?? 0, longest?.size ?? 0]
  const widths = [8, 8, 6, 9]
  return `${title.padEnd(23)}${cells.map((cell, index) => String(cell).padStart(widths[index]!)).join('')}  ${longest?.where ?? ''}`
}

function commentShare(files: readonly SourceFile[]): number {
  let comments = 0
  let all = 0
  for (const { text } of files) {
    const lines = text.split('\n').filter((line) => line.trim() !== '')
    all += lines.length
    comments += lines.filter((line) => /^\s*(\/\/|\/\*|\*)/.test(line)).length
  }
  return all === 0 ? 0 : comments / all
}

function hasBody(node: ts.Node): node is ts.FunctionLikeDeclaration {
  return ts.isFunctionLike(node) && 'body' in node && node.body !== undefined
}

function linesOf(code: ts.SourceFile, node: ts.Node): number {
  return code.getLineAndCharacterOfPosition(node.getEnd()).line + 2 - lineOf(code, node)
}

/** The outermost functions below `node` that have a name, and tests. */
function countedApart(node: ts.Node): ts.Node[] {
  const apart: ts.Node[] = []
  ts.forEachChild(node, (child) => {
    const isNamed = hasBody(child) && (child.name !== undefined || isNamedByParent(child))
    if (isNamed || isGivenTo(child, /^(describe|it|test|beforeAll|beforeEach|afterAll|afterEach)\b/)) apart.push(child)
    else apart.push(...countedApart(child))
  })
  return apart
}

function isNamedByParent({ parent }: ts.Node): boolean {
  return ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent)
}

function isGivenTo(node: ts.Node, callee: RegExp): boolean {
  return ts.isFunctionLike(node) && ts.isCallExpression(node.parent) && callee.test(node.parent.expression.getText())
}

function nameOf(node: ts.FunctionLikeDeclaration): string {
  if (node.name !== undefined) return node.name.getText()
  const { parent } = node
  if (ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent)) return parent.name.getText()
  if (ts.isCallExpression(parent)) {
    const title = parent.arguments[0]
    const argument = title !== undefined && title !== node && ts.isStringLiteralLike(title) ? `'${title.text}', ` : ''
    return `${parent.expression.getText().split('\n')[0]!}(${argument}…)`
  }
  return ts.isConstructorDeclaration(node) ? 'constructor' : 'a function'
}
