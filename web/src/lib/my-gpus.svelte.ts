import { listen } from './live.svelte.ts'
import type { Gpu } from './market.svelte.ts'

/** The user's GPUs as they are, with telemetry every few seconds; undefined until they are known. */
export class MyGpus {
  all = $state.raw<Gpu[]>()

  /** For an `$effect`. */
  follow = (): (() => void) => {
    const known = new Map<string, Gpu>()
    return listen({ name: 'gpus' }, (message) => {
      if (message.type === 'watching') this.all ??= []
      if (message.type !== 'gpus') return
      for (const gpu of message.gpus) known.set(gpu.id, gpu)
      for (const id of message.removed) known.delete(id)
      this.all = [...known.values()].sort((a, b) => (a.id < b.id ? 1 : -1))
    })
  }
}
