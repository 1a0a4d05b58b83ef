import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { api, micros } from '@orbyte/protocol'
import type { ScriptedAgent } from '@orbyte/server/agents/fixture-agent.ts'
import { defaultTiming } from '@orbyte/server/config.ts'
import {
  after,
  type Behaviour,
  elapsedMs,
  endOfAttempt,
  failToLoad,
  onStage,
  paidByRenters,
  type Stage,
  submitText,
  within,
} from './hostile-behaviour.ts'

// Agents that lie about what they have or what they have done. They speak the real protocol to a real server.

const noChecks = { config: { auditMicrosPerDay: micros(0) } }
/** Only what a renter has agreed to is checked. */
const noCanaries = { config: { timing: { ...defaultTiming, auditEveryMs: 10_000_000_000 } } }

/** A catalogue with a model that needs 40 GiB. */
async function largeModelFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'orbyte-hostile-'))
  const file = { name: 'weights', url: 'https://example.org/large.gguf', sha256: '0'.repeat(64), size_bytes: 4e10 }
  const words = { title: 'Large', description: 'A large model.', licence: 'MIT', origin: 'A test.', demo: false }
  const needs = { task_types: ['text_generation'], format: 'gguf', vram_gb: 40, parameters: 7e10 }
  const model = { name: 'large', ...words, ...needs, files: [file], context_tokens: 4_096, prompt_style: null }
  await writeFile(join(folder, 'catalogue.json'), JSON.stringify([model]))
  return folder
}

export const liesAboutVram: Behaviour = {
  name: 'says that it has 80 GiB of VRAM, and has 8',
  response:
    'The model does not load: the attempt is not charged and is tried elsewhere, and the GPU cools down. After three in a row it is on trial: nobody gets it while another GPU is free.',
  async run() {
    const modelsPath = await largeModelFolder()
    try {
      return await onStage({ config: { ...noChecks.config, modelsPath } }, async (stage) => {
        const large = { vram_mib: 81_920 }
        const [liar, honest] = [
          await stage.newGpu({ ...large, price_per_hour: '1' }),
          await stage.newGpu({ ...large, price_per_hour: '3.6' }),
        ]
        const id = await submitText(stage, { input_data: { model: 'large' } })
        const beganMs = stage.clock.now()
        await failToLoad(stage, liar, await liar.next('attempt.start'))
        const detected = after(stage.clock.now() - beganMs)
        await stage.answer(honest, 'from a GPU that has the memory')
        const { code } = await endOfAttempt(stage, id)
        return { paid: await paidByRenters(stage, liar), stoppedBy: code, detected }
      })
    } finally {
      await rm(modelsPath, { recursive: true })
    }
  },
}

/** A hundred tokens in so many milliseconds, on exactly this GPU. */
async function hundredTokens(stage: Stage, agent: ScriptedAgent, runMs: number): Promise<string> {
  const id = await submitText(stage, { requirements: { gpu_id: agent.gpuId } })
  const start = await agent.begin()
  const text = 'word '.repeat(100)
  await agent.output(start, 0, text)
  await stage.pass(runMs / 1_000)
  const tokens = { prompt_tokens: 0, completion_tokens: 100 }
  const output_data = { text, model: 'tinylm', finish_reason: 'length', ...tokens }
  await agent.result(start, { run_ms: runMs, output_data })
  return id
}

/** Two honest GPUs of the kind are known to need a second. */
async function knownSpeed(stage: Stage) {
  for (const agent of [await stage.newGpu(), await stage.newGpu()])
    for (let tasks = 0; tasks < 3; tasks++) await hundredTokens(stage, agent, 1_000)
}

const slowly = (name: string, runMs: number): Behaviour => ({
  name,
  response:
    'It is paid for the time that passed, which is flagged: on the attempt, on the GPU and in an event. It is checked at once, and counts as dearer from then on, by its record.',
  run: () =>
    onStage(noChecks, async (stage) => {
      await knownSpeed(stage)
      const liar = await stage.newGpu({ price_per_hour: '3.6' })
      const beganMs = stage.clock.now()
      const id = await hundredTokens(stage, liar, runMs)
      const detected = after(stage.clock.now() - beganMs)
      const [attempt] = (await stage.task(stage.alice, id)).attempts
      const stoppedBy = attempt!.slow && (await stage.gpu(liar)).tasks_slow === 1 ? 'attempt.slow' : 'nothing'
      return { paid: await paidByRenters(stage, liar), stoppedBy, detected }
    }),
})

export const sellsAnotherGpu = slowly('sells a GPU as one that is eight times as fast', 8_000)
export const delaysResult = slowly('has the result after a second, and keeps it for a minute to be paid for it', 60_000)

/** The liar and two honest GPUs, which always say the same. */
async function trio(stage: Stage, price = '3.6') {
  const liar = await stage.newGpu({ price_per_hour: price })
  const honest = [await stage.newGpu(), await stage.newGpu()]
  const answers = new Map([[liar, 'canned'], ...honest.map((agent) => [agent, 'right'] as const)])
  return { liar, honest, answers }
}

export const cannedOutput: Behaviour = {
  name: 'gives every task the same canned answer, or that of a cheaper model',
  response:
    'The first check is seconds after it connects. It is not paid for that, its record falls, and after the third, with ten minutes between two, it is suspended. What renters had done there meanwhile stays paid.',
  run: () =>
    onStage({}, async (stage) => {
      const { liar, answers } = await trio(stage)
      const isCaught = async () => (await stage.gpu(liar)).audits_failed > 0
      await stage.serve(answers, isCaught)
      const detected = within(elapsedMs(stage))
      await stage.serve(answers, async () => !liar.isOpen())
      const [agent] = (await stage.ask(stage.ownerOf(liar), api.agents.list, {})).items
      const stoppedBy = agent!.status === 'suspended' ? 'agent_suspended' : 'nothing'
      return { paid: await paidByRenters(stage, liar), stoppedBy, detected }
    }),
}

export const cannedForRenter: Behaviour = {
  name: 'the same, to a renter who agreed to re-execution',
  response: 'The task is run again elsewhere at the market’s cost; the renter gets the money back and is told.',
  run: () =>
    onStage(noCanaries, async (stage) => {
      const { liar, answers } = await trio(stage, '1')
      const id = await submitText(stage, { allow_reexecution: true })
      await stage.answer(liar, 'canned')
      const beganMs = stage.clock.now()
      const isJudged = async () => (await stage.task(stage.alice, id)).reexecution !== 'waiting'
      await stage.serve(answers, isJudged)
      const { reexecution } = await stage.task(stage.alice, id)
      const detected = within(stage.clock.now() - beganMs)
      return { paid: await paidByRenters(stage, liar), stoppedBy: String(reexecution), detected }
    }),
}

export const blamesTheRenter: Behaviour = {
  name: 'says after a minute that the renter’s input is at fault, to be paid for the minute',
  response:
    'Nothing has come of it, so there is no evidence and no charge. A check of the market’s own has an input that others can answer: it counts as wrong there.',
  run: () =>
    onStage(noChecks, async (stage) => {
      const liar = await stage.newGpu({ price_per_hour: '1' })
      const id = await submitText(stage)
      const start = await liar.begin()
      const beganMs = stage.clock.now()
      await stage.pass(60)
      await liar.result(start, { outcome: 'failed', fault: 'renter', code: 'input_refused', run_ms: 60_000 })
      const { code } = await endOfAttempt(stage, id)
      return { paid: await paidByRenters(stage, liar), stoppedBy: code, detected: after(stage.clock.now() - beganMs) }
    }),
}

export const emptyResult: Behaviour = {
  name: 'names an image in its result that it has never made',
  response: 'The result is not as much as was asked for: not charged, tried elsewhere.',
  run: () =>
    onStage(noChecks, async (stage) => {
      const images = { task_types: ['image_generation' as const], model_formats: ['tinyimg-onnx'] }
      const liar = await stage.newGpu({ ...images, price_per_hour: '1' })
      const task = { task_type: 'image_generation' as const, input_data: { prompt: 'a red circle' }, max_cost: '1' }
      const { id } = await stage.ask(stage.alice, api.tasks.create, task)
      const start = await liar.begin()
      const image = { file: 'image-1.png', width: 128, height: 128, seed: 1 }
      await stage.pass(1)
      const beganMs = stage.clock.now()
      await liar.result(start, {
        run_ms: 1_000,
        output_data: { images: [image], model: 'tinyimg', ignored_words: [] },
      })
      const { code } = await endOfAttempt(stage, id)
      return { paid: await paidByRenters(stage, liar), stoppedBy: code, detected: after(stage.clock.now() - beganMs) }
    }),
}
