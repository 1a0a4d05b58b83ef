import type { Gpu } from '$lib/market.svelte.ts'
import type { TaskSummary } from '$lib/task-types.ts'

const at = '2026-01-01T00:00:00.000Z'

const gpu: Gpu = {
  id: 'gpu_01k00000000000000000000000',
  owner_id: 'user_01k00000000000000000000000',
  name: 'gaming PC',
  model: 'NVIDIA GeForce RTX 4090',
  kind: 'gpu',
  vram_gb: 24,
  usable_vram_gb: 23.5,
  price_per_hour: '0.34',
  region: 'eu-central',
  status: 'available',
  liveness: 'alive',
  draining: false,
  sharing: false,
  free_milli: 1000,
  task_types: ['text_generation', 'image_generation', 'embedding'],
  models: ['tinylm'],
  agent_id: null,
  differences: [],
  specs: null,
  telemetry: { utilization_percent: 87, vram_used_gb: 11, temperature_celsius: 64, power_watts: 310 },
  tasks_completed: 1_204,
  tasks_failed: 3,
  tasks_slow: 0,
  audits_passed: 0,
  audits_failed: 0,
  health: 'good',
  cool_down_until: null,
  created_at: at,
  last_seen_at: at,
}

/** One in each state that there is. */
export const gpus: Gpu[] = [
  gpu,
  { ...gpu, id: 'gpu_2', status: 'in_use', model: 'NVIDIA RTX PRO 6000 Blackwell Workstation Edition', vram_gb: 96 },
  { ...gpu, id: 'gpu_3', status: 'in_use', draining: true },
  { ...gpu, id: 'gpu_4', status: 'maintenance', kind: 'emulated' },
  { ...gpu, id: 'gpu_5', health: 'cooling_down' },
  { ...gpu, id: 'gpu_6', health: 'on_trial', kind: 'cpu', model: 'CPU' },
  { ...gpu, id: 'gpu_7', status: 'offline', liveness: 'unknown' },
  { ...gpu, id: 'gpu_8', status: 'offline', liveness: null, task_types: [], tasks_completed: 0, tasks_failed: 0 },
]

const task: TaskSummary = {
  id: 'task_01k00000000000000000000000',
  renter_id: gpu.owner_id,
  title: 'The first chapter',
  task_type: 'text_generation',
  status: 'completed',
  gpu_id: gpu.id,
  max_price_per_hour: '1',
  max_duration_ms: 600_000,
  max_wait_ms: 86_400_000,
  auto_pay: true,
  allow_reexecution: false,
  priority: 5,
  hold: '0.4',
  cost: '0.000231',
  run_ms: 2_417,
  attempts_count: 1,
  end: null,
  created_at: at,
  updated_at: at,
  started_at: at,
  completed_at: at,
}

export const tasks: TaskSummary[] = [
  task,
  {
    ...task,
    id: 'task_2',
    status: 'failed',
    title: 'A title that somebody has written at length, because they wanted to find it again among many others',
    end: { code: 'renter_error', message: 'The work itself failed.', decided_by: 'agent' },
  },
  { ...task, id: 'task_3', status: 'running', cost: null, run_ms: 0, title: null },
]
