import { connect } from 'node:net'
import { serveEngine } from './serve-engine.ts'
import { systemEngineHost } from './system-engine-host.ts'

/** An engine for tests: it does what its parameters say, with no native library. */
export type FixtureParams = {
  readonly act: 'echo' | 'obey' | 'deaf' | 'crash' | 'environment'
  /** It holds a connection to this port, whose end tells that the process has ended. */
  readonly port?: number
  /** As llama-engine.ts takes it. One that computes by the "gpu" ends as a native library does that cannot, before it is ready. */
  readonly device?: 'gpu' | 'vulkan'
}

const host = systemEngineHost()
serveEngine(
  {
    check: async () => ({ fixture: true }),
    async run(params, context) {
      const { act = 'echo', port, device } = params as Partial<FixtureParams>
      if (port !== undefined) connect(port, '127.0.0.1')
      context.preparing(0.5)
      if (device === 'gpu') {
        console.error('CUDA error: unsupported toolchain\nat libc.so.6')
        process.abort()
      }
      await context.ready()
      context.output('started')
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
