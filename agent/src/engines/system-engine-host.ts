import { systemClock } from '../system-clock.ts'
import type { EngineArguments, EngineRequest } from './engine-protocol.ts'
import type { EngineHost } from './serve-engine.ts'

/** This process as an engine's host: a child of the agent, with an IPC channel to it. */
export function systemEngineHost(): EngineHost {
  // Ctrl-C in a terminal and a service manager signal the whole group. The agent decides when an engine stops: it may
  // still be draining. When the agent goes, the channel closes, and that ends this process.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => {})
  return {
    clock: systemClock,
    // A reply that cannot be sent any more is lost with the agent; the channel's end is noticed by itself.
    send: (reply) => void process.send?.(reply, undefined, undefined, () => {}),
    onRequest: (listener) => process.on('message', (request) => listener(request as EngineRequest)),
    onDisconnect: (listener) => process.on('disconnect', listener),
    exit: (code) => process.exit(code),
  }
}

export function engineArguments(): EngineArguments {
  return JSON.parse(process.argv[2] ?? '{"enginesFolder":null}') as EngineArguments
}
