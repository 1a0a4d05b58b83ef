import type { AuditVerdict } from '@orbyte/protocol'

/** open: its task has not ended; none: it has, without an answer. Each is of another owner. */
export type Asked<A> = { readonly taskId: string; readonly answer: A | 'open' | 'none' }

export type Judgement =
  | { readonly kind: 'wait' }
  /** One more GPU of another owner has to say. */
  | { readonly kind: 'ask' }
  | {
      readonly kind: 'decided'
      readonly status: 'agreed' | 'disagreed' | 'undecided'
      readonly verdicts: ReadonlyMap<string, AuditVerdict>
    }

/** So many owners are asked at most: two, a third where they differ, and one for one that does not answer. */
export const askedMax = 4

/**
 * What the answers say. Two that are the same decide. Where two differ, a third does: who is in the minority is at fault. Without
 * a majority of at least two, nobody knows. `canAsk`: whether somebody else may be asked.
 */
export function judgeAnswers<A extends object>(
  asked: readonly Asked<A>[],
  { isSame, canAsk }: { isSame: (one: A, other: A) => boolean; canAsk: boolean },
): Judgement {
  if (asked.some(({ answer }) => answer === 'open')) return { kind: 'wait' }
  const groups: { answer: A; taskIds: string[] }[] = []
  for (const { taskId, answer } of asked) {
    if (typeof answer === 'string') continue
    const group = groups.find((one) => isSame(one.answer, answer))
    if (group) group.taskIds.push(taskId)
    else groups.push({ answer, taskIds: [taskId] })
  }
  groups.sort((a, b) => b.taskIds.length - a.taskIds.length)
  const [first, second] = groups
  const isMajority =
    first !== undefined && first.taskIds.length >= 2 && first.taskIds.length > (second?.taskIds.length ?? 0)
  if (!isMajority && canAsk && asked.length < askedMax) return { kind: 'ask' }
  const verdictOf = ({ taskId, answer }: Asked<A>): AuditVerdict => {
    if (typeof answer === 'string') return 'unanswered'
    if (!isMajority) return 'undecided'
    return first.taskIds.includes(taskId) ? 'agreed' : 'at_fault'
  }
  const verdicts = new Map(asked.map((one) => [one.taskId, verdictOf(one)]))
  return { kind: 'decided', status: !isMajority ? 'undecided' : second ? 'disagreed' : 'agreed', verdicts }
}

/** Agreements in a row until a GPU is trusted. */
export const agreementsUntilTrusted = 10

/**
 * Adaptive replication, as BOINC does it (sched_send.cpp): one that has not agreed ten times in a row is checked after each task;
 * then after one in n, n being how often it has agreed, and never less than after `share` of them. What differs begins anew.
 */
export function checkChance({ auditsInARow }: { auditsInARow: number }, share: number): number {
  return auditsInARow < agreementsUntilTrusted ? 1 : Math.max(1 / auditsInARow, share)
}
