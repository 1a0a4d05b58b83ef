/** One event of a `text/event-stream`, as the HTML standard dispatches it. */
export type StreamEvent = { id: string; type: string; data: string }

/**
 * Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6). Feed it text in pieces
 * of any size; it gives the events that are complete. What follows the last blank line is not an event.
 */
export function createEventStreamParser(): (text: string) => StreamEvent[] {
  let rest = ''
  let started = false
  let lineFeedBelongsBefore = false
  let id = ''
  let type = ''
  let data: string[] = []

  function takeLine(line: string, events: StreamEvent[]) {
    if (line === '') {
      if (data.length > 0) events.push({ id, type: type || 'message', data: data.join('\n') })
      type = ''
      data = []
      return
    }
    const colon = line.indexOf(':')
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'data') data.push(value)
    else if (field === 'event') type = value
    else if (field === 'id' && !value.includes('\0')) id = value
  }

  return (text) => {
    const events: StreamEvent[] = []
    if (text === '') return events
    // A piece may end between the two halves of a CRLF.
    rest += lineFeedBelongsBefore && text.startsWith('\n') ? text.slice(1) : text
    lineFeedBelongsBefore = text.endsWith('\r')
    if (!started) rest = rest.replace(/^\uFEFF/, '')
    started = true
    for (let end; (end = /\r\n|\n|\r/.exec(rest));) {
      takeLine(rest.slice(0, end.index), events)
      rest = rest.slice(end.index + end[0].length)
    }
    return events
  }
}

/** The events of a response's body. Ends when the body ends; throws what the connection throws. */
export async function* eventsOfStream(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  onBytes: () => void = () => {},
): AsyncGenerator<StreamEvent, void, undefined> {
  const reader = body.getReader()
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  const parse = createEventStreamParser()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      onBytes()
      yield* parse(decoder.decode(value, { stream: true }))
    }
  } finally {
    // Whoever stops reading also closes the connection.
    await reader.cancel().catch(() => {})
  }
}
