import { micros } from '@orbyte/protocol'
import { helloOf, openSocket, type ScriptedAgent } from '@orbyte/server/agents/fixture-agent.ts'
import {
  after,
  type Behaviour,
  elapsedMs,
  endOfAttempt,
  onStage,
  paidByRenters,
  type Stage,
  submitText,
} from './hostile-behaviour.ts'

// Agents that do nothing, or more than they are asked, or what is others'.

const noChecks = { config: { auditMicrosPerDay: micros(0) } }

export const neverAnswers: Behaviour = {
  name: 'takes no offer and refuses none',
  response: 'After 5 s the next GPU is asked; this one cools down, ever longer, and is on trial after three.',
  run: () =>
    onStage(noChecks, async (stage) => {
      const idler = await stage.newGpu({ price_per_hour: '1' })
      const other = await stage.newGpu()
      const id = await submitText(stage)
      await idler.next('attempt.start')
      const beganMs = stage.clock.now()
      stage.clock.advance(5_000)
      const { code } = await endOfAttempt(stage, id)
      const detected = after(stage.clock.now() - beganMs)
      await stage.answer(other, 'from one that answers')
      return { paid: await paidByRenters(stage, idler), stoppedBy: code, detected }
    }),
}

export const neverRuns: Behaviour = {
  name: 'reports that it is ready, and never runs',
  response: 'Text that does not begin in two minutes is the provider’s failure: not charged, tried elsewhere.',
  run: () =>
    onStage(noChecks, async (stage) => {
      const idler = await stage.newGpu({ price_per_hour: '1' })
      const id = await submitText(stage)
      await idler.begin()
      const beganMs = stage.clock.now()
      const isOver = async () => (await stage.task(stage.alice, id)).attempts[0]!.end !== null
      await stage.serve(new Map(), isOver)
      const { code } = await endOfAttempt(stage, id)
      return { paid: await paidByRenters(stage, idler), stoppedBy: code, detected: after(stage.clock.now() - beganMs) }
    }),
}

export const claimsTime: Behaviour = {
  name: 'claims a week of run time for a second',
  response: 'It is charged what passed on the server’s own clock between ready and the result.',
  run: () =>
    onStage(noChecks, async (stage) => {
      const liar = await stage.newGpu({ price_per_hour: '3.6' })
      const id = await submitText(stage)
      const start = await liar.begin()
      await stage.pass(1)
      const output_data = { text: 'a', model: 'tinylm', finish_reason: 'stop', prompt_tokens: 1, completion_tokens: 1 }
      await liar.result(start, { run_ms: 604_800_000, output_data })
      const { run_ms } = await stage.task(stage.alice, id)
      const stoppedBy = run_ms === 1_000 ? 'the server’s clock' : 'nothing'
      return { paid: await paidByRenters(stage, liar), stoppedBy, detected: 'at once' }
    }),
}

export const stealsResults: Behaviour = {
  name: 'reports results for tasks that run elsewhere, and for one that was taken from it',
  response: 'Each attempt has a random token of its own: without the current one a message changes nothing.',
  run: () =>
    onStage(noChecks, async (stage) => {
      const honest = await stage.newGpu({ price_per_hour: '1' })
      const thief = await stage.newGpu()
      const id = await submitText(stage)
      const start = await honest.begin()
      const output_data = { text: 'stolen', model: 'x', finish_reason: 'stop', prompt_tokens: 1, completion_tokens: 1 }
      for (const fencing_token of [start.fencing_token, '0'.repeat(32)])
        await thief.result({ ...start, fencing_token }, { run_ms: 1_000, output_data })
      await honest.result({ ...start, fencing_token: 'stale' }, { run_ms: 1_000, output_data })
      const { status } = await stage.task(stage.alice, id)
      await stage.finish(honest, start, 'its own')
      const stoppedBy = status === 'running' ? 'fencing token' : 'nothing'
      return { paid: await paidByRenters(stage, thief), stoppedBy, detected: 'at once' }
    }),
}

export const resendsAll: Behaviour = {
  name: 'sends everything that it has said again and again',
  response: 'Messages are numbered and an attempt ends once: a repetition is acknowledged and has no effect.',
  run: () =>
    onStage(noChecks, async (stage) => {
      let agent = await stage.newGpu({ price_per_hour: '3.6' })
      const owner = agent
      const id = await submitText(stage)
      const start = await stage.answer(agent, 'once')
      const said = agent.machine.seq
      const output_data = { text: 'once', model: 'x', finish_reason: 'stop', prompt_tokens: 1, completion_tokens: 1 }
      for (let times = 0; times < 20; times++) {
        await agent.ready(start)
        await agent.output(start, 0, 'once', 1_000)
        await agent.result(start, { run_ms: 1_000, output_data })
      }
      agent.machine.seq = said - 1
      agent = await stage.reconnect(agent)
      await agent.result(start, { run_ms: 9_000, output_data })
      const { attempts } = await stage.task(stage.alice, id)
      const text = await stage.call(`GET /api/tasks/${id}/output`, { token: stage.alice.token })
      const stoppedBy = attempts.length === 1 && text.body === 'once' ? 'sequence numbers' : 'nothing'
      return { paid: await paidByRenters(stage, owner), stoppedBy, detected: 'at once' }
    }),
}

export const floods: Behaviour = {
  name: 'floods the market with messages',
  response:
    'It is read no faster than 2,000 messages a second, after ten seconds’ worth at once. It waits; nobody else does.',
  run: () =>
    onStage({ ...noChecks, limits: { agentMessagesPerSecondMax: 100 } }, async (stage) => {
      const flooder = await stage.newGpu({ price_per_hour: '9' })
      const honest = await stage.newGpu()
      const id = await submitText(stage)
      const start = await honest.begin()
      for (let id = 1; id <= 20_000; id++) flooder.send({ type: 'heartbeat', id, devices: [], attempts: [] })
      await stage.finish(honest, start, 'undisturbed')
      const { status } = await stage.task(stage.alice, id)
      const read = flooder.untaken('heartbeat.ack').length
      const stoppedBy = status === 'completed' && read < 5_000 ? 'backpressure' : 'nothing'
      return { paid: await paidByRenters(stage, flooder), stoppedBy, detected: 'at once' }
    }),
}

export const sendsGarbage: Behaviour = {
  name: 'sends half messages and garbage, in the middle of a task',
  response: 'The line is closed at once. Without the attempt in its next hello, the task is tried elsewhere.',
  run: () =>
    onStage(noChecks, async (stage) => {
      const vandal = await stage.newGpu({ price_per_hour: '1' })
      const honest = await stage.newGpu()
      const id = await submitText(stage)
      await vandal.begin()
      vandal.sendRaw('{"type":"attempt.result","seq":99,"attempt_id":"att_')
      const { code } = await vandal.next('refused')
      await vandal.closed
      await stage.reconnect(vandal)
      await stage.answer(honest, 'whole')
      const { status } = await stage.task(stage.alice, id)
      const stoppedBy = status === 'completed' ? code : 'nothing'
      return { paid: await paidByRenters(stage, vandal), stoppedBy, detected: 'at once' }
    }),
}

/** Why it is not let in; null: it is. */
async function knock(stage: Stage, { machine }: ScriptedAgent): Promise<string | null> {
  const line = openSocket(stage.url)
  line.send(helloOf(machine, (await line.next('challenge')).nonce))
  const answer = await Promise.race([line.next('welcome'), line.next('refused')])
  await line.disconnect()
  return answer.type === 'refused' ? answer.code : null
}

export const flaps: Behaviour = {
  name: 'connects, takes a task, drops the line, connects again without it, and so on',
  response:
    'Each loss is a failure of its: uncharged, tried elsewhere, and it cools down. After twelve connections in a minute it is let in no more for the rest of it.',
  run: () =>
    onStage(noChecks, async (stage) => {
      const flapper = await stage.newGpu({ price_per_hour: '1' })
      const honest = await stage.newGpu()
      const id = await submitText(stage)
      await flapper.accept(await flapper.next('attempt.start'))
      let refused: string | null = null
      for (let times = 0; times < 20 && refused === null; times++) {
        if (flapper.isOpen()) await flapper.disconnect()
        await stage.pass(1)
        refused = await knock(stage, flapper)
        if (times === 0) await stage.answer(honest, 'elsewhere')
      }
      const { status, attempts } = await stage.task(stage.alice, id)
      const isDone = status === 'completed' && attempts[0]!.end!.code === 'agent_restarted'
      const stoppedBy = isDone ? (refused ?? 'nothing') : 'nothing'
      return { paid: await paidByRenters(stage, flapper), stoppedBy, detected: after(elapsedMs(stage)) }
    }),
}
