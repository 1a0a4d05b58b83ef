import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import type { GeneratedFile } from '../generate.ts'
import { repository } from '../stamps.mjs'
import { descendants } from '../tidy/source-file.ts'

type Variable = { readonly name: string; readonly description: string }

/** The names in the environment that a market reads. */
export function environmentReference(): GeneratedFile {
  const rows = serverVariables().map(({ name, description }) => `| \`${name}\` | ${description} |`)
  const content = `# Configuration

Generated from server/src/config.ts by \`npm run generate\`.

A market reads these from its environment, or from a file \`.env\` in the folder that it is started in. Every one may also be
given as \`NAME_FILE\`, the path of a file that holds the value. All have defaults that work.

| Name | Meaning |
| --- | --- |
${rows.join('\n')}
`
  return { path: 'docs/reference/configuration.md', content }
}

/** What to copy to .env. */
export function environmentExample(): GeneratedFile {
  const entries = serverVariables().map(({ name, description }) => `# ${description}\n# ${name}=\n`)
  return {
    path: '.env.example',
    content: `# Copy this to .env and set what you need. Every default works.\n\n${entries.join('\n')}`,
  }
}

/** Fields of the configuration whose comment begins with a name in capitals: "PORT, default 8000; 0 picks a free one." */
export function serverVariables(): Variable[] {
  const path = 'server/src/config.ts'
  const code = ts.createSourceFile(path, readFileSync(join(repository, path), 'utf8'), ts.ScriptTarget.Latest, true)
  const variables = [...descendants(code)].filter(ts.isPropertySignature).flatMap((field) => {
    const [comment] = ts.getJSDocCommentsAndTags(field)
    const text = ts.getTextOfJSDocComment(comment?.comment)?.replaceAll(/\s+/g, ' ') ?? ''
    const [, name, rest] = /^([A-Z][A-Z_]+[A-Z])\b(?: or [A-Z_]+_FILE\b)?[,;:]? ?(.*)$/.exec(text) ?? []
    if (name === undefined || rest === undefined) return []
    return [{ name, description: rest.charAt(0).toUpperCase() + rest.slice(1) }]
  })
  if (variables.length === 0)
    throw new Error(`${path} documents no variable any more: look for them where they are now`)
  return variables
}
