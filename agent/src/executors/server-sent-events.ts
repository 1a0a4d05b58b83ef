/** Longer than any event of text; whoever sends more on one line means no good. */
const lineCharactersMax = 1_000_000

/** The `data` of each server-sent event of a response, as it comes. Other fields and comments are left out. */
export async function* readEventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let data: string[] = []
  for await (const line of readLines(body)) {
    if (line === '') {
      if (data.length > 0) yield data.join('\n')
      data = []
    } else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''))
  }
  // A server that closes without an empty line at the end has still sent its last event.
  if (data.length > 0) yield data.join('\n')
}

async function* readLines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const bytes of body) {
    rest += decoder.decode(bytes, { stream: true })
    // A carriage return at the very end may be half of a line end: it waits for the rest.
    const lines = rest.split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    if (rest.length > lineCharactersMax) throw new Error('an event is too long')
    yield* lines
  }
  rest += decoder.decode()
  if (rest !== '') yield rest.replace(/\r$/, '')
}
