import { readdirSync } from 'node:fs'
import { api } from '@orbyte/protocol'
import type { Context } from '../context.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import { gpuStatus } from '../gpus/gpu-status.ts'
import { type Route, route } from '../http/route.ts'
import type { Scheduler } from '../scheduler/scheduler-service.ts'
import { version } from '../version.ts'

type Parts = { gpus: GpuService; scheduler: Scheduler; isStopping: () => boolean }

/** Whether the market is up, and how it is doing. */
export function healthRoute(context: Context, { gpus, scheduler, isStopping }: Parts): Route {
  const { config, clock } = context
  const startedMs = clock.now()
  const agentPackage = packageIn(config.downloadsPath)
  return route(api.health.get, async () => {
    const statuses = gpus.registry.all().map(gpuStatus)
    const { pending, running } = scheduler.counts()
    return {
      status: isStopping() ? ('stopping' as const) : ('ok' as const),
      version,
      uptime_s: Math.round((clock.now() - startedMs) / 1_000),
      market: {
        mode: 'mock' as const,
        paused: scheduler.pause.paused,
        fee_percent: config.feeBasisPoints / 100,
        emulated_gpus: config.allowEmulatedGpus,
        gpus_connected: statuses.filter((status) => status !== 'offline').length,
        gpus_free: statuses.filter((status) => status === 'available').length,
        tasks_pending: pending,
        tasks_running: running,
      },
      agent_package: agentPackage && `/downloads/${agentPackage}`,
    }
  })
}

function packageIn(folder: string | null): string | null {
  if (folder === null) return null
  return readdirSync(folder).find((name) => /^orbyte-.*\.tgz$/.test(name)) ?? null
}
