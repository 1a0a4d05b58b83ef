import { expect, test } from 'vitest'
import { parsePrompt, type Vocabulary } from './tinyimg-prompt.ts'

const vocabulary: Vocabulary = { objects: ['cat', 'octopus'], colors: ['gray', 'purple', 'yellow'], size: 32 }

test.each([
  ['a cat', { object: ['cat'], colour: [], background: [], ignored: [] }],
  ['two cats', { object: ['cat'], colour: [], background: [], ignored: ['two'] }],
  ['A Grey CAT', { object: ['cat'], colour: ['gray'], background: [], ignored: [] }],
  [
    'a purple octopus on a yellow background',
    { object: ['octopus'], colour: ['purple'], background: ['yellow'], ignored: [] },
  ],
  ['a cat on purple', { object: ['cat'], colour: [], background: ['purple'], ignored: [] }],
  ['a yellow background', { object: [], colour: [], background: ['yellow'], ignored: [] }],
  ['a cat and an octopus', { object: ['cat'], colour: [], background: [], ignored: ['octopus'] }],
  ['Einstein über Zürich', { object: [], colour: [], background: [], ignored: ['einstein', 'über', 'zürich'] }],
])('"%s" is read as the model was taught', (prompt, expected) => {
  const { values, ignoredWords } = parsePrompt(prompt, vocabulary)
  const { objects, colors } = vocabulary
  const named = (words: string[], from: number) => words.filter((_, index) => values[from + index] === 1)
  expect({
    object: named(objects, 0),
    colour: named(colors, objects.length),
    background: named(colors, objects.length + colors.length),
    ignored: ignoredWords,
  }).toEqual(expected)
})
