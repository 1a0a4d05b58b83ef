import type { ChatMessage } from '@orbyte/protocol'
import type { ChatHistoryItem } from 'node-llama-cpp'
import type { z } from 'zod'

export type Message = z.infer<typeof ChatMessage>

/** A stop text that ends an answer where the model goes on to invent the next question. */
export const qaStop = '\nQ:'

/**
 * A conversation as lines of "Q: …" and "A: …", for models that were trained on nothing else. One line a message, because
 * that is what they have seen. System messages have no place in it; whoever calls says so.
 */
export function qaPrompt(messages: readonly Message[]): string {
  const lines = messages.flatMap(({ role, content }) => {
    if (role === 'system') return []
    return `${role === 'user' ? 'Q' : 'A'}: ${content.trim().replace(/\s+/g, ' ')}`
  })
  return [...lines, 'A:'].join('\n')
}

/** A conversation as the engine's chat templates take it, with an empty answer at its end for the model to fill. */
export function chatHistory(messages: readonly Message[]): ChatHistoryItem[] {
  const history = messages.map(({ role, content }): ChatHistoryItem => {
    if (role === 'assistant') return { type: 'model', response: [content] }
    return { type: role, text: content }
  })
  return [...history, { type: 'model', response: [] }]
}
