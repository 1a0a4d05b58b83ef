import { posix } from 'node:path'
import { measureFunctions } from './budget.ts'
import type { Offence, Rule } from './rule.ts'
import { fileName, type SourceFile, stem, workspaceOf } from './source-file.ts'

// How large a file is, what it is called, where it lies, and what no file of ours says.

export const fileLinesMax = 400
export const functionLinesMax = 70
const componentLinesMax = 250
const foldersBelowSrcMax = 2

/** They say nothing about what is inside. */
const emptyNames = ['common', 'helper', 'helpers', 'misc', 'shared', 'util', 'utils']
/** One word, one meaning: task, agent, attempt. */
const otherWords = [
  'impl',
  'job',
  'jobs',
  'manager',
  'node',
  'nodes',
  'order',
  'orders',
  'worker',
  'workers',
  'workload',
  'workloads',
]

const isCode = (path: string) => path.endsWith('.ts')
const isText = (path: string) => !/\.(gguf|onnx|bin|png|ico|woff2|gz|jpg|webp)$/.test(path)
/** Data and texts that were made elsewhere. */
const isOurs = (path: string) => isText(path) && !path.startsWith('models/') && !path.startsWith('scripts/tidy')

export const placeRules: readonly Rule[] = [
  {
    name: 'file-length',
    says: `A file has at most ${fileLinesMax} lines: split it by what its parts are about.`,
    appliesTo: isCode,
    find(file) {
      const lines = file.text.trimEnd().split('\n').length
      return lines > fileLinesMax ? [{ line: fileLinesMax + 1, detail: `${lines} lines` }] : []
    },
  },
  {
    name: 'component-length',
    says: `A component has at most ${componentLinesMax} lines: give its parts files beside it.`,
    appliesTo: (path) => path.endsWith('.svelte'),
    find(file) {
      const lines = file.text.trimEnd().split('\n').length
      return lines > componentLinesMax ? [{ line: componentLinesMax + 1, detail: `${lines} lines` }] : []
    },
  },
  {
    name: 'tokens-not-colours',
    says: 'Colours are tokens of web/src/app.css: they have a light and a dark side.',
    appliesTo: (path) => path.endsWith('.svelte'),
    find: (file) => lines(file, /\[#|\b(rgb|hsl|oklch)a?\(/),
  },
  {
    name: 'function-length',
    says: `A function has at most ${functionLinesMax} lines: give its steps names.`,
    appliesTo: isCode,
    find: (file) =>
      measureFunctions(file)
        .filter(({ lines }) => lines > functionLinesMax)
        .map(({ line, name, lines }) => ({ line, detail: `${name}: ${lines} lines` })),
  },
  {
    name: 'file-names',
    says: 'Files and folders are kebab-case and named after what they are about.',
    appliesTo: (path) => isCode(path) && workspaceOf(path) !== 'web',
    find(file) {
      const parts = [...posix.dirname(file.path).split('/').slice(1), stem(file.path)]
      const bad = parts.find(
        (part) =>
          !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(part) || emptyNames.includes(part) || part.split('-').some(isOtherWord),
      )
      return bad === undefined ? [] : [{ line: 1, detail: bad }]
    },
  },
  {
    name: 'flat-folders',
    says: `At most ${foldersBelowSrcMax} folders lie between src/ and a file.`,
    appliesTo: (path) => /^[a-z-]+\/src\//.test(path) && !path.startsWith('web/'),
    find: (file) => (file.path.split('/').length - 3 > foldersBelowSrcMax ? [{ line: 1, detail: file.path }] : []),
  },
  {
    name: 'no-lonely-files',
    says: 'A folder has more than one file: move this one up.',
    appliesTo: (path) => /^[a-z-]+\/src\/.+\//.test(path) && !path.startsWith('web/'),
    find(file, tree) {
      const folder = `${posix.dirname(file.path)}/`
      const others = [...tree].filter((path) => path.startsWith(folder) && path !== file.path)
      return others.length === 0 ? [{ line: 1, detail: fileName(file.path) }] : []
    },
  },
  {
    name: 'nothing-to-do-later',
    says: 'Do it now, or write it down where work is planned.',
    appliesTo: isOurs,
    find: (file) => lines(file, /\b(TODO|FIXME|XXX)\b/),
  },
  {
    name: 'no-paths-of-a-machine',
    says: 'This path exists on one machine only.',
    appliesTo: isOurs,
    find: (file) => lines(file, /(?<![\w./-])\/(work|root)\/\w/),
  },
  {
    name: 'no-registry-hosts',
    says: 'Packages come from whatever registry npm is set up with.',
    appliesTo: (path) => ['package-lock.json', '.npmrc'].includes(fileName(path)),
    find: (file) => lines(file, /"resolved": "[a-z+]+:\/\/|^\s*(@[\w-]+:)?registry\s*=/),
  },
]

function isOtherWord(word: string): boolean {
  return otherWords.includes(word)
}

function lines(file: SourceFile, pattern: RegExp): Offence[] {
  return file.text
    .split('\n')
    .flatMap((text, index) => (pattern.test(text) ? [{ line: index + 1, detail: text.trim().slice(0, 80) }] : []))
}
