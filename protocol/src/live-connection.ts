// What both sides of the live connection know before the first message. The dialogue: live-messages.ts.

export const liveProtocolVersion = 1
export const livePath = '/api/live'
/** The largest message that the server reads, in bytes. */
export const liveMessageBytesMax = 16_384
export const liveSubjectsMax = 64

/** Why the server hangs up, as the WebSocket's close code. */
export const liveCloseCodes = {
  /** The server is stopping. Come back later. */
  stopping: 1012,
  /** A message that is not one of these. Coming back with the same will not help. */
  malformed: 4400,
  /** The credential is not valid, or not any more. Renew it and come back. */
  unauthenticated: 4401,
  /** Nothing was read for so long that the connection is taken for dead. Come back. */
  too_slow: 4408,
  /** Too many connections or messages. Come back later. */
  too_many: 4429,
} as const
