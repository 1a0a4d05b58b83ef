import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { encode } from 'fast-png'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../system-clock.ts'
import { attemptOf, executorSuite, recordReport, runAttempt, type SuiteSubject } from './executor-suite.ts'
import { createOpenaiExecutor } from './openai-executor.ts'

/** A server with the OpenAI API, as far as we use it. A test may answer the next requests itself. */
type Answer = (body: Record<string, unknown>, response: ServerResponse, request: IncomingMessage) => void
let answers: Record<string, Answer> = {}
let requests: { path: string; body: Record<string, unknown>; authorization: string | undefined }[] = []
const server = createServer((request, response) => void serve(request, response)).listen(0, '127.0.0.1')
await once(server, 'listening')
const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`

afterAll(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(() => {
  answers = {}
  requests = []
})

const options = { baseUrl: `${baseUrl}/`, apiKey: 'owner-key', fetch, clock: systemClock, newSeed: () => 5 }
const executor = createOpenaiExecutor(options)
const text: SuiteSubject = {
  name: 'openai (text)',
  executor,
  taskType: 'text_generation',
  input: { messages: [{ role: 'user', content: 'Hello' }] },
  longInput: { prompt: 'never ends' },
  isDeterministic: true,
}
const embedding: SuiteSubject = {
  name: 'openai (embedding)',
  executor,
  taskType: 'embedding',
  input: { input: ['one', 'two'] },
  longInput: { input: ['never ends'] },
  isDeterministic: true,
}
const image: SuiteSubject = {
  name: 'openai (images)',
  executor,
  taskType: 'image_generation',
  input: { prompt: 'a cat', count: 2, seed: 8 },
  longInput: { prompt: 'never ends' },
  isDeterministic: true,
}
for (const subject of [text, embedding, image]) executorSuite(subject)

describe('openai executor', () => {
  test('the server’s models are its own', async () => {
    expect(await executor.models?.()).toEqual(['big-model', 'small-model'])
  })

  test('a conversation is streamed, with the owner’s key and the renter’s sampling', async () => {
    const ask = { ...text.input, model: 'small-model', temperature: 0, seed: 3, stop: ['\n'], max_tokens: 9 }
    const { output, report } = await runAttempt(text, ask)
    expect(output).toEqual({
      text: 'Grüße!',
      model: 'small-model',
      finish_reason: 'stop',
      prompt_tokens: 7,
      completion_tokens: 2,
    })
    expect(report.text()).toBe('Grüße!')
    expect(report.events).toEqual(['ready', 'output', 'output'])
    expect(requests.at(-1)).toMatchObject({
      path: '/v1/chat/completions',
      authorization: 'Bearer owner-key',
      body: { model: 'small-model', temperature: 0, seed: 3, stop: ['\n'], max_tokens: 9, stream: true },
    })
  })

  test('a plain prompt goes to the completions of the first model', async () => {
    answers['/v1/completions'] = (_body, response) =>
      events(response, [{ choices: [{ text: 'once', finish_reason: 'length' }] }])
    const { output } = await runAttempt(text, { prompt: 'Tell' })
    expect(output).toMatchObject({ text: 'once', model: 'big-model', finish_reason: 'length', completion_tokens: 1 })
  })

  test('vectors come in the order of the texts and have length 1', async () => {
    const { output } = await runAttempt(embedding, embedding.input)
    expect(output).toMatchObject({
      embeddings: [
        [0.6, 0.8],
        [0, 1],
      ],
      dimensions: 2,
      tokens: 4,
    })
  })

  test('each image is a request with its own seed', async () => {
    const { output } = await runAttempt(image, { prompt: 'a cat', count: 2, seed: 8 })
    expect(output['images']).toEqual([
      { file: 'image-1.png', width: 2, height: 1, seed: 8 },
      { file: 'image-2.png', width: 2, height: 1, seed: 9 },
    ])
    expect(requests.filter(({ path }) => path.endsWith('/generations')).map(({ body }) => body['seed'])).toEqual([8, 9])
  })

  test.each([
    [
      400,
      { error: { message: 'too many tokens' } },
      { code: 'input_refused', fault: 'renter', message: /too many tokens/ },
    ],
    [
      404,
      { error: { message: 'no such model' } },
      { code: 'model_unavailable', fault: 'provider', message: /no such/ },
    ],
    [401, { error: 'bad key' }, { code: 'engine_unavailable', fault: 'provider', message: /401: bad key/ }],
    [500, 'oops', { code: 'engine_unavailable', fault: 'provider', message: /500/ }],
    [429, {}, { code: 'engine_unavailable', fault: 'provider', message: /429/ }],
    [200, 'not an API', { code: 'engine_unavailable', fault: 'provider', message: /not what the API says/ }],
  ])('status %i is blamed on who is at fault', async (status, body, { code, fault, message }) => {
    answers['/v1/embeddings'] = (_body, response) => void response.writeHead(status).end(JSON.stringify(body))
    const run = runAttempt(embedding, embedding.input)
    await expect(run).rejects.toMatchObject({ code, fault, message: expect.stringMatching(message) })
  })

  test('an answer that breaks off is the provider’s fault', async () => {
    answers['/v1/chat/completions'] = (_body, response) => {
      response.write(`data: ${JSON.stringify({ choices: [{ delta: { content: 'half' } }] })}\n\n`)
      response.socket?.end()
    }
    await expect(runAttempt(text, text.input)).rejects.toMatchObject({ code: 'engine_unavailable', fault: 'provider' })
    answers['/v1/chat/completions'] = (_body, response) =>
      events(response, [{ choices: [{ delta: { content: 'half' } }] }])
    await expect(runAttempt(text, text.input)).rejects.toMatchObject({ message: expect.stringContaining('broke off') })
  })

  test('an error in the middle of a stream is told', async () => {
    answers['/v1/chat/completions'] = (_body, response) =>
      events(response, [{ error: { message: 'CUDA out of memory' } }])
    await expect(runAttempt(text, text.input)).rejects.toMatchObject({ message: expect.stringContaining('CUDA') })
  })

  test('a cancel closes the connection to the server', async () => {
    const cancel = new AbortController()
    const closed = new Promise<void>((resolve) => {
      answers['/v1/completions'] = (_body, response) => {
        response.on('close', resolve)
        response.write(`data: ${JSON.stringify({ choices: [{ text: 'a' }] })}\n\n`)
      }
    })
    const report = recordReport({ onOutput: () => cancel.abort() })
    const run = executor.run(attemptOf(text, { prompt: 'x' }), report, cancel.signal)
    await expect(run).rejects.toMatchObject({ code: 'cancelled' })
    await closed
  })

  test('a server that is silent when it is asked for its models is not waited for', async () => {
    answers['/v1/models'] = () => {}
    const hurried = { ...systemClock, sleep: () => systemClock.sleep(1) }
    const problem = await createOpenaiExecutor({ ...options, clock: hurried }).check()
    expect(problem?.message).toContain('no answer within 10 s')
  })

  test('a server that does not answer is a problem with a remedy', async () => {
    const dead = createOpenaiExecutor({ ...options, baseUrl: 'http://127.0.0.1:9/v1' })
    expect(await dead.check()).toMatchObject({ remedy: expect.stringContaining('http://127.0.0.1:9/v1') })
  })
})

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const body = JSON.parse(Buffer.concat(chunks).toString() || '{}') as Record<string, unknown>
  const path = request.url ?? ''
  requests.push({ path, body, authorization: request.headers.authorization })
  const answer = answers[path] ?? defaultAnswers[path]
  if (!answer) return void response.writeHead(404).end()
  if (JSON.stringify(body).includes('never ends')) return void response.writeHead(200).flushHeaders()
  answer(body, response, request)
}

const defaultAnswers: Record<string, Answer> = {
  '/v1/models': (_body, response) => json(response, { data: [{ id: 'big-model' }, { id: 'small-model' }] }),
  '/v1/chat/completions': (_body, response) =>
    events(response, [
      { choices: [{ delta: { role: 'assistant', content: '' } }] },
      { choices: [{ delta: { content: 'Grüße' } }] },
      { choices: [{ delta: { content: '!' } }] },
      { choices: [{ delta: {}, finish_reason: 'stop' }] },
      { choices: [], usage: { prompt_tokens: 7, completion_tokens: 2 } },
    ]),
  '/v1/completions': (_body, response) => events(response, [{ choices: [{ text: 'x', finish_reason: 'stop' }] }]),
  '/v1/embeddings': (_body, response) =>
    json(response, {
      data: [
        { index: 1, embedding: [0, 5] },
        { index: 0, embedding: [3, 4] },
      ],
      usage: { prompt_tokens: 4 },
    }),
  '/v1/images/generations': (_body, response) =>
    json(response, { data: [{ b64_json: Buffer.from(twoPixels).toString('base64') }] }),
}
const twoPixels = encode({ width: 2, height: 1, data: Uint8Array.of(255, 0, 0, 0, 0, 255), channels: 3, depth: 8 })

function json(response: ServerResponse, body: object): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function events(response: ServerResponse, list: object[]): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const event of list) response.write(`data: ${JSON.stringify(event)}\n\n`)
  response.end('data: [DONE]\n\n')
}
