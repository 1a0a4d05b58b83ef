import { errorRegistry } from '@orbyte/protocol'
import type { GeneratedFile } from '../generate.ts'

/** All error codes in one table, in the order of their HTTP status. */
export function errorReference(): GeneratedFile {
  const rows = Object.entries(errorRegistry)
    .sort(([, [a]], [, [b]]) => a - b)
    .map(([code, [status, title]]) => `| ${status} | \`${code}\` | ${title} |`)
  const content = `# Errors

Generated from protocol/src/errors.ts by \`npm run generate\`.

Every error reply is an RFC 9457 problem document (\`application/problem+json\`). \`code\` is for programs and never changes
its meaning; \`detail\` is for a person and says what to do next.

| Status | \`code\` | Meaning |
| --- | --- | --- |
${rows.join('\n')}
`
  return { path: 'docs/reference/errors.md', content }
}
