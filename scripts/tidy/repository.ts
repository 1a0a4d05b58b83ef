import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '../stamps.mjs'
import { codeRules } from './code-rules.ts'
import { importRules } from './import-rules.ts'
import { placeRules } from './place-rules.ts'
import type { Rule, Tree } from './rule.ts'
import { parseSourceFile, type SourceFile } from './source-file.ts'

export const rules: readonly Rule[] = [...importRules, ...codeRules, ...placeRules]

export type Finding = { readonly path: string; readonly line: number; readonly rule: string; readonly text: string }

export function findUntidiness(files: readonly SourceFile[], tree: Tree): Finding[] {
  return files.flatMap((file) =>
    rules
      .filter((rule) => rule.appliesTo(file.path))
      .flatMap((rule) =>
        rule.find(file, tree).map(({ line, detail }) => ({
          path: file.path,
          line,
          rule: rule.name,
          text: `${file.path}:${line}  ${rule.name}: ${detail}\n    ${rule.says}`,
        })),
      ),
  )
}

/** Everything that is in git or would be added to it. */
export function readRepository(): SourceFile[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  const binary = /\.(gguf|onnx|bin|png|ico|woff2|gz|jpg|webp)$/
  return listed
    .split('\0')
    .filter((path) => path !== '' && !binary.test(path) && existsSync(join(repository, path)))
    .sort()
    .map((path) => parseSourceFile(path, readFileSync(join(repository, path), 'utf8')))
}
