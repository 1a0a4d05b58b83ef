import type { z } from 'zod'

type Issue = z.core.$ZodIssue

/** What is wrong with a field, for a person: "must be at most 2". What its schema says for itself goes before. */
export function fieldMessage(issue: Issue): string {
  if (!zodsOwnWords.test(issue.message)) return issue.message
  switch (issue.code) {
    case 'invalid_type':
      return issue.message.endsWith('received undefined')
        ? 'is missing'
        : `must be ${typeNames[issue.expected] ?? issue.expected}`
    case 'invalid_value':
      return `must be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`
    case 'too_small': {
      if (issue.minimum === 1 && issue.origin in countedIn) return 'must not be empty'
      return limitMessage(issue.origin, issue.inclusive === false ? 'more than' : 'at least', issue.minimum)
    }
    case 'too_big':
      return limitMessage(issue.origin, issue.inclusive === false ? 'less than' : 'at most', issue.maximum)
    case 'invalid_format':
      return issue.format === 'email' ? 'is not an email address' : issue.message
    default:
      return issue.message
  }
}

/** How the library's own messages begin. */
const zodsOwnWords = /^(Too (small|big): |Invalid (input|option): |Invalid email address$)/

const typeNames: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'an array',
  object: 'an object',
  record: 'an object',
}

const countedIn: Readonly<Record<string, string>> = { string: 'character', array: 'item', record: 'field' }

function limitMessage(origin: string, bound: string, limit: number | bigint): string {
  const unit = countedIn[origin]
  return unit === undefined
    ? `must be ${bound} ${limit}`
    : `must have ${bound} ${limit} ${unit}${Number(limit) === 1 ? '' : 's'}`
}
