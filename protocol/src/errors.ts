import { z } from 'zod'
import { JsonObject } from './endpoint.ts'

/** Every error code of the API: its HTTP status and what it means in general. The reply's `detail` says what to do next. */
export const errorRegistry = {
  invalid_request: [400, 'The request does not fit the endpoint’s schema.'],
  malformed_json: [400, 'The body is not valid JSON.'],
  invalid_cursor: [400, 'The cursor is not one that this list gave out.'],
  idempotency_key_invalid: [400, 'An idempotency key is 1 to 200 printable characters.'],
  unauthenticated: [401, 'The request needs a valid access token or API key.'],
  token_expired: [401, 'The access token or refresh token has expired.'],
  invalid_credentials: [401, 'The email address or the password is wrong.'],
  insufficient_funds: [402, 'The balance does not cover the amount.'],
  forbidden: [403, 'This account may not do that.'],
  user_suspended: [403, 'The account is suspended.'],
  agent_suspended: [403, 'The agent is suspended.'],
  not_found: [404, 'There is no such thing, or it is not yours to see.'],
  route_not_found: [404, 'There is no such endpoint.'],
  method_not_allowed: [405, 'The endpoint exists, but not with this method.'],
  email_taken: [409, 'An account with this email address exists.'],
  idempotency_key_reused: [409, 'The idempotency key was used with another body.'],
  task_finished: [409, 'The task has ended already.'],
  task_not_finished: [409, 'The task has not ended yet.'],
  payment_settled: [409, 'The task has been paid already.'],
  payment_not_due: [409, 'There is nothing to pay for this task.'],
  dispute_open: [409, 'The payment is under dispute.'],
  dispute_decided: [409, 'The dispute has been decided already.'],
  review_over: [409, 'The time to review this payment is over.'],
  gpu_in_use: [409, 'The GPU is running a task.'],
  gpu_connected: [409, 'An agent is connected with the GPU, and would register it again.'],
  gpu_backed: [409, 'An agent has detected what the GPU is: that cannot be changed by hand any more.'],
  too_many_gpus: [409, 'The account has as many GPUs as it may have.'],
  gpu_not_connected: [409, 'No connected agent backs this GPU.'],
  gpu_device_taken: [409, 'The device is registered as another GPU.'],
  account_has_obligations: [409, 'The account still has running tasks, GPUs in use or money on it.'],
  market_paused: [409, 'The market accepts no new tasks at the moment.'],
  no_gpu_fits: [409, 'No connected GPU could run this task.'],
  backup_refused: [409, 'The market cannot be backed up at the moment.'],
  not_mock_mode: [409, 'Deposits and withdrawals of this kind exist only while the market’s currency is a mock.'],
  emulated_gpus_refused: [409, 'This market does not admit emulated GPUs.'],
  output_deleted: [410, 'The output has been deleted.'],
  body_too_large: [413, 'The body is larger than this endpoint accepts.'],
  unsupported_media_type: [415, 'The content type is not one that this endpoint reads.'],
  range_not_satisfiable: [416, 'The file ends before the range begins.'],
  price_required: [422, 'No GPU fits now, so the task needs a maximum price of its own.'],
  too_many_pending_tasks: [429, 'The account has as many waiting tasks as it may have.'],
  too_many_pending_bytes: [429, 'The inputs of the account’s waiting tasks are as large together as they may be.'],
  faucet_limit: [429, 'The faucet has given this account what it gives in a day.'],
  rate_limited: [429, 'Too many calls in a short time.'],
  internal_error: [500, 'Something broke on our side.'],
  database_full: [507, 'The market’s disk is full: nothing was changed.'],
  unavailable: [503, 'The server is starting or stopping.'],
} as const satisfies Record<string, readonly [status: number, title: string]>

export type ErrorCode = keyof typeof errorRegistry

/** RFC 9457 problem document, with a code for programs. */
export const Problem = z
  .object({
    type: z.string().describe('A URI that names the kind of problem.'),
    title: z.string(),
    status: z.int(),
    detail: z.string().describe('What happened and what to do next, for a person.'),
    code: z.string().describe('What happened, for a program. One of the codes in the error reference.'),
    errors: z
      .array(z.object({ field: z.string(), message: z.string() }))
      .optional()
      .describe('The fields that do not fit, where the request was invalid.'),
    details: JsonObject.optional(),
    request_id: z.string().optional(),
  })
  .meta({ id: 'Problem' })
export type Problem = z.infer<typeof Problem>

/** A failure that the caller is told about. Anything else that is thrown is a bug and becomes `internal_error`. */
export class ProblemError extends Error {
  readonly code: ErrorCode
  readonly details: Record<string, unknown> | undefined
  readonly fields: { field: string; message: string }[] | undefined
  constructor(code: ErrorCode, message: string, more: Pick<ProblemError, 'details' | 'fields'> | undefined) {
    super(message)
    this.name = 'ProblemError'
    this.code = code
    this.details = more?.details
    this.fields = more?.fields
  }
  get status(): number {
    return errorRegistry[this.code][0]
  }
}

/** `throw problem('not_found', 'There is no task task_…. List yours with GET /api/tasks.')` */
export function problem(code: ErrorCode, message: string, details?: Record<string, unknown>): ProblemError {
  return new ProblemError(code, message, { details, fields: undefined })
}

export function problemDocument(error: ProblemError): Problem {
  const [status, title] = errorRegistry[error.code]
  return {
    type: `urn:orbyte:error:${error.code}`,
    title,
    status,
    detail: error.message,
    code: error.code,
    ...(error.fields && { errors: error.fields }),
    ...(error.details && { details: error.details as Problem['details'] }),
  }
}
