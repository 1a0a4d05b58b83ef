import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Asked, askedMax, checkChance, judgeAnswers } from './audit-judgement.ts'

type Given = { text: string }
const isSame = (one: Given, other: Given) => one.text === other.text
const judge = (answers: Asked<Given>['answer'][], canAsk = true) =>
  judgeAnswers(
    answers.map((answer, index) => ({ taskId: String(index), answer })),
    { isSame, canAsk },
  )
const verdicts = (answers: Asked<Given>['answer'][], canAsk = true) => {
  const judgement = judge(answers, canAsk)
  return judgement.kind === 'decided' ? [judgement.status, ...judgement.verdicts.values()] : judgement.kind
}
const [a, b, c] = [{ text: 'a' }, { text: 'b' }, { text: 'c' }]

test('two that agree decide; two that differ need a third, who says which is at fault', () => {
  expect(verdicts([a, a])).toEqual(['agreed', 'agreed', 'agreed'])
  expect(verdicts([a, b])).toBe('ask')
  expect(verdicts([a, b, a])).toEqual(['disagreed', 'agreed', 'at_fault', 'agreed'])
  expect(verdicts([a, b, b])).toEqual(['disagreed', 'at_fault', 'agreed', 'agreed'])
})

test('without a majority nobody is at fault', () => {
  expect(verdicts([a, b], false)).toEqual(['undecided', 'undecided', 'undecided'])
  expect(verdicts([a, b, c])).toBe('ask')
  expect(verdicts([a, b, c, 'none'])).toEqual(['undecided', 'undecided', 'undecided', 'undecided', 'unanswered'])
  expect(verdicts([a, a, b, b])).toEqual(['undecided', 'undecided', 'undecided', 'undecided', 'undecided'])
})

test('who does not answer is replaced, and is not at fault', () => {
  expect(verdicts([a, 'open'])).toBe('wait')
  expect(verdicts([a, 'none'])).toBe('ask')
  expect(verdicts([a, 'none', a])).toEqual(['agreed', 'agreed', 'unanswered', 'agreed'])
  expect(verdicts(['none', 'none'], false)).toEqual(['undecided', 'unanswered', 'unanswered'])
})

const anyAnswer = fc.oneof(fc.constantFrom('open' as const, 'none' as const), fc.constantFrom(a, b, c))

test('nobody is at fault but where two others agree, and more than agree with them', () => {
  fc.assert(
    fc.property(fc.array(anyAnswer, { minLength: 1, maxLength: askedMax }), fc.boolean(), (answers, canAsk) => {
      const judgement = judge(answers, canAsk)
      if (judgement.kind !== 'decided') return
      const found = [...judgement.verdicts.values()]
      const withVerdict = (verdict: string) => answers.filter((_, index) => found[index] === verdict)
      if (found.includes('at_fault')) expect(withVerdict('agreed').length).toBeGreaterThanOrEqual(2)
      for (const wrong of withVerdict('at_fault'))
        expect(answers.filter((answer) => answer === wrong).length).toBeLessThan(withVerdict('agreed').length)
      expect(new Set(withVerdict('agreed')).size).toBeLessThanOrEqual(1)
      for (const answer of withVerdict('unanswered')) expect(answer).toBe('none')
      expect(answers).not.toContain('open')
    }),
  )
})

test('it always comes to an end: where nobody else may be asked and nothing is open, it is decided', () => {
  fc.assert(
    fc.property(fc.array(anyAnswer, { minLength: 1, maxLength: askedMax }), (answers) => {
      const isOpen = answers.includes('open')
      expect(judge(answers, false).kind).toBe(isOpen ? 'wait' : 'decided')
      if (answers.length === askedMax) expect(judge(answers).kind).toBe(isOpen ? 'wait' : 'decided')
    }),
  )
})

test('a GPU is checked after each task until it has agreed ten times in a row, then ever more seldom, but never not at all', () => {
  const chances = [0, 9, 10, 20, 50, 1_000].map((auditsInARow) => checkChance({ auditsInARow }, 0.02))
  expect(chances).toEqual([1, 1, 0.1, 0.05, 0.02, 0.02])
})

/** How many tasks, on average, until a liar is caught who cheats on this share of all that they are given. */
function tasksUntilCaught(cheats: number): number {
  const share = 0.02
  let tasks = 1 / share / cheats
  for (let auditsInARow = 1 / share - 1; auditsInARow >= 0; auditsInARow--)
    tasks = 1 / checkChance({ auditsInARow }, share) + (1 - cheats) * tasks
  return tasks
}

test('who always cheats is caught at once, and who cheats on one task in a hundred after almost four thousand', () => {
  const caught = [1, 0.5, 0.2, 0.1, 0.05, 0.01].map((cheats) => Math.round(tasksUntilCaught(cheats)))
  expect(caught).toEqual([1, 2, 12, 72, 326, 3_878])
})
