import type { Behaviour, Facts } from './hostile-behaviour.ts'
import { freezes } from './hostile-frozen.ts'
import {
  claimsTime,
  flaps,
  floods,
  neverAnswers,
  neverRuns,
  resendsAll,
  sendsGarbage,
  stealsResults,
} from './hostile-idlers.ts'
import {
  blamesTheRenter,
  cannedForRenter,
  cannedOutput,
  delaysResult,
  emptyResult,
  liesAboutVram,
  sellsAnotherGpu,
} from './hostile-lies.ts'

/** Every behaviour, with what is expected to come of it: a run that differs is a fault of the market's. */
export const behaviours: readonly { behaviour: Behaviour; expected: Facts }[] = [
  { behaviour: liesAboutVram, expected: { paid: '0', stoppedBy: 'out_of_memory', detected: '20 s' } },
  { behaviour: sellsAnotherGpu, expected: { paid: '0.008', stoppedBy: 'attempt.slow', detected: '8 s' } },
  { behaviour: cannedOutput, expected: { paid: '0', stoppedBy: 'agent_suspended', detected: 'within 30 s' } },
  { behaviour: cannedForRenter, expected: { paid: '0', stoppedBy: 'refuted', detected: 'within 30 s' } },
  { behaviour: emptyResult, expected: { paid: '0', stoppedBy: 'invalid_output', detected: 'at once' } },
  { behaviour: blamesTheRenter, expected: { paid: '0', stoppedBy: 'input_refused', detected: '60 s' } },
  { behaviour: delaysResult, expected: { paid: '0.06', stoppedBy: 'attempt.slow', detected: '60 s' } },
  { behaviour: claimsTime, expected: { paid: '0.001', stoppedBy: 'the server’s clock', detected: 'at once' } },
  { behaviour: neverRuns, expected: { paid: '0', stoppedBy: 'no_output', detected: '120 s' } },
  { behaviour: neverAnswers, expected: { paid: '0', stoppedBy: 'accept_timeout', detected: '5 s' } },
  { behaviour: stealsResults, expected: { paid: '0', stoppedBy: 'fencing token', detected: 'at once' } },
  { behaviour: resendsAll, expected: { paid: '0.001', stoppedBy: 'sequence numbers', detected: 'at once' } },
  { behaviour: floods, expected: { paid: '0', stoppedBy: 'backpressure', detected: 'at once' } },
  { behaviour: sendsGarbage, expected: { paid: '0', stoppedBy: 'invalid_message', detected: 'at once' } },
  { behaviour: flaps, expected: { paid: '0', stoppedBy: 'too_many_connections', detected: '13 s' } },
  { behaviour: freezes, expected: { paid: '0', stoppedBy: 'agent_lost', detected: '90 s' } },
]

export type Outcome = { readonly behaviour: Behaviour; readonly facts: Facts }

/** As it stands in the guide. */
export function tableOf(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map(({ behaviour: { name, response }, facts: { paid, stoppedBy, detected } }) => {
    return `| ${name} | ${paid} ORB | ${response} | \`${stoppedBy}\` | ${detected} |`
  })
  const head = [
    '| An agent that … | The renter paid it | What the market did | Stopped by | Time to detect |',
    '| --- | --- | --- | --- | --- |',
  ]
  return [...head, ...rows].join('\n')
}
