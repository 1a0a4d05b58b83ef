import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { AttemptError } from './executor.ts'
import { readEventData } from './server-sent-events.ts'

export type OpenaiServerOptions = {
  /** The API's root, like "http://127.0.0.1:11434/v1". */
  readonly baseUrl: string
  readonly apiKey: string | null
  readonly fetch: typeof fetch
  readonly clock: Clock
}

/** The few calls of the OpenAI API that we make, with each failure said in our words. */
export interface OpenaiServer {
  models(): Promise<string[]>
  /** Sends a request and reads the whole answer. */
  post<Answer>(path: string, body: object, options: PostOptions<Answer>): Promise<Answer>
  /** Sends a request whose answer is streamed; resolves when the server has accepted it. */
  stream<Event>(path: string, body: object, options: PostOptions<Event>): Promise<AsyncGenerator<Event>>
}

type PostOptions<Schema> = { readonly schema: z.ZodType<Schema>; readonly signal: AbortSignal }

const ModelList = z.object({ data: z.array(z.object({ id: z.string() })) })
const Refusal = z.object({ error: z.union([z.string(), z.object({ message: z.string() })]) })
const answerCharactersShown = 300
const modelsMsMax = 10_000

export function createOpenaiServer({ baseUrl, apiKey, fetch, clock }: OpenaiServerOptions): OpenaiServer {
  const authorization: Record<string, string> = apiKey === null ? {} : { authorization: `Bearer ${apiKey}` }

  async function request(path: string, init: RequestInit & { signal: AbortSignal }): Promise<Response> {
    const headers = { 'content-type': 'application/json', ...authorization }
    const answer = await network(
      () => fetch(`${baseUrl.replace(/\/+$/, '')}${path}`, { ...init, headers }),
      init.signal,
    )
    if (!answer.ok) throw refusal(answer.status, await answer.text().catch(() => ''))
    return answer
  }

  return {
    async models() {
      const tooLate = new AbortController()
      const answered = new AbortController()
      const tooLateError = unavailable(`no answer within ${modelsMsMax / 1_000} s`)
      clock.sleep(modelsMsMax, answered.signal).then(
        () => tooLate.abort(tooLateError),
        () => {},
      )
      try {
        const answer = await request('/models', { signal: tooLate.signal })
        const list = parseAnswer(ModelList, await network(() => answer.text(), tooLate.signal))
        return list.data.map((model) => model.id)
      } finally {
        answered.abort()
      }
    },
    async post(path, body, { schema, signal }) {
      const answer = await request(path, { method: 'POST', body: JSON.stringify(body), signal })
      return parseAnswer(schema, await network(() => answer.text(), signal))
    },
    async stream(path, body, { schema, signal }) {
      const answer = await request(path, { method: 'POST', body: JSON.stringify({ ...body, stream: true }), signal })
      return readEvents(answer, schema, signal)
    },
  }
}

async function* readEvents<Event>(answer: Response, schema: z.ZodType<Event>, signal: AbortSignal) {
  if (answer.body === null) throw unavailable('its answer is empty')
  const events = readEventData(answer.body)
  while (true) {
    const { done, value } = await network(() => events.next(), signal)
    if (done || value === '[DONE]') return
    yield parseAnswer(schema, value)
  }
}

function parseAnswer<Answer>(schema: z.ZodType<Answer>, text: string): Answer {
  const json = parseJson(text)
  const refused = Refusal.safeParse(json)
  if (refused.success) throw unavailable(messageOf(refused.data))
  const parsed = schema.safeParse(json)
  if (parsed.success) return parsed.data
  throw unavailable(`its answer is not what the API says: ${text.slice(0, answerCharactersShown)}`)
}

/** An error of the network is the provider's, unless the attempt was cancelled. */
async function network<Result>(work: () => Promise<Result>, signal: AbortSignal): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (signal.aborted) throw signal.reason
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : ''
    throw unavailable([error instanceof Error ? error.message : String(error), cause].filter(Boolean).join(': '))
  }
}

/** The renter's input is at fault only where the server says so of the input itself. */
function refusal(status: number, body: string): AttemptError {
  const refused = Refusal.safeParse(parseJson(body))
  const why = (refused.success ? messageOf(refused.data) : body).slice(0, answerCharactersShown)
  if (status === 400 || status === 413 || status === 422) {
    return new AttemptError('input_refused', `The model server refused the input: ${why}`, 'renter')
  }
  if (status === 404)
    return new AttemptError('model_unavailable', `The model server does not have it: ${why}`, 'provider')
  return unavailable(`status ${status}: ${why}`)
}

function unavailable(why: string): AttemptError {
  return new AttemptError('engine_unavailable', `The owner's model server failed: ${why}`, 'provider')
}

function messageOf({ error }: z.infer<typeof Refusal>): string {
  return typeof error === 'string' ? error : error.message
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
