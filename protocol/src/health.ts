import { z } from 'zod'
import { endpoint } from './endpoint.ts'

export const Health = z
  .object({
    status: z.enum(['ok', 'stopping']),
    version: z.string(),
    uptime_s: z.number().nonnegative(),
    market: z.object({
      mode: z.enum(['mock']),
      paused: z.boolean(),
      fee_percent: z.number(),
      emulated_gpus: z.boolean().describe('Whether emulated GPUs are admitted: a development market.'),
      gpus_connected: z.int().nonnegative(),
      gpus_free: z.int().nonnegative(),
      tasks_pending: z.int().nonnegative(),
      tasks_running: z.int().nonnegative(),
    }),
    agent_package: z.string().nullable().describe('Where this server offers its own CLI and agent, for npx.'),
  })
  .meta({ id: 'Health' })

export const health = {
  get: endpoint('GET /api/health', {
    summary: 'Whether the market is up, and how it is doing',
    access: 'public',
    output: Health,
  }),
}
