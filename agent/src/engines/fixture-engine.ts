import { connect } from 'node:net'
import type { GpuLibrary } from './gpu-libraries.ts'
import { recited } from './rehearsal-model.ts'
import { serveEngine } from './serve-engine.ts'
import { systemEngineHost } from './system-engine-host.ts'

/** An engine for tests: it does what its parameters say, with no native library. */
export type FixtureParams = {
  readonly act: 'echo' | 'obey' | 'deaf' | 'crash' | 'environment'
  /** It holds a connection to this port, whose end tells that the process has ended. */
  readonly port?: number
  /** As llama-engine.ts takes it. A GPU whose uuid has "no-cuda" or "no-vulkan" in it ends the process before it is ready. */
  readonly device?: 'cpu' | GpuLibrary
  /** Of a rehearsal, whose answer is right but on a GPU whose uuid has "wrong" in it. */
  readonly input?: { readonly max_tokens: number }
}

const host = systemEngineHost()
serveEngine(
  {
    check: async () => ({ fixture: true }),
    async run(params, context) {
      const { act = 'echo', port, device, input } = params as Partial<FixtureParams>
      const gpu = process.env['CUDA_VISIBLE_DEVICES'] ?? ''
      if (port !== undefined) connect(port, '127.0.0.1')
      context.preparing(0.5)
      if (gpu.includes(`no-${device}`)) {
        console.error(`CUDA error: ${gpu.includes('full') ? 'out of memory' : 'unsupported toolchain'}\nat libc.so.6`)
        process.abort()
      }
      await context.ready()
      context.output('started')
      if (input !== undefined) return { text: gpu.includes('wrong') ? 'zzz' : recited(input.max_tokens) }
      switch (act) {
        case 'echo':
          return { pid: process.pid }
        case 'environment':
          return { ...process.env }
        case 'crash':
          console.error('fixture: segmentation fault')
          process.abort()
          break
        case 'obey':
          await host.clock.sleep(600_000, context.signal)
          break
        case 'deaf':
          await host.clock.sleep(600_000)
      }
      return {}
    },
  },
  host,
)
