import type { AttemptStatus, Gpu, GpuStatus, PaymentStatus, TaskStatus } from '@orbyte/protocol'
import type { z } from 'zod'

export type Tone = 'neutral' | 'wait' | 'busy' | 'ok' | 'bad'
/** A shape for each state, so that colour is never the only sign. See components/glyph.svelte. */
export type Shape =
  | 'dashed'
  | 'dot'
  | 'arc'
  | 'orbit'
  | 'check'
  | 'cross'
  | 'slash'
  | 'minus'
  | 'question'
  | 'full'
  | 'half'
  | 'pause'
  | 'hollow'
  | 'back'
export type Look = { label: string; tone: Tone; shape: Shape; says: string }

export const taskLooks: Record<TaskStatus, Look> = {
  pending: { label: 'Waiting', tone: 'wait', shape: 'dashed', says: 'Waits for a GPU. Waiting costs nothing.' },
  running: { label: 'Running', tone: 'busy', shape: 'orbit', says: 'A GPU has taken it.' },
  completed: { label: 'Completed', tone: 'ok', shape: 'check', says: 'It ran to its end.' },
  failed: { label: 'Failed', tone: 'bad', shape: 'cross', says: 'It ended without a result.' },
  cancelled: { label: 'Cancelled', tone: 'neutral', shape: 'slash', says: 'It was stopped by its renter.' },
}

export const attemptLooks: Record<AttemptStatus, Look> = {
  offered: { label: 'Offered', tone: 'wait', shape: 'dot', says: 'The GPU’s agent was asked.' },
  accepted: { label: 'Accepted', tone: 'busy', shape: 'hollow', says: 'The GPU is reserved. Not charged yet.' },
  preparing: { label: 'Preparing', tone: 'busy', shape: 'arc', says: 'Fetching and loading. Not charged.' },
  running: { label: 'Running', tone: 'busy', shape: 'orbit', says: 'The meter runs.' },
  completed: { label: 'Completed', tone: 'ok', shape: 'check', says: 'It ran to its end.' },
  failed: { label: 'Failed', tone: 'bad', shape: 'cross', says: 'It ended without a result.' },
  cancelled: { label: 'Cancelled', tone: 'neutral', shape: 'slash', says: 'It was stopped.' },
  refused: {
    label: 'Refused',
    tone: 'neutral',
    shape: 'minus',
    says: 'The agent did not take it. The next GPU is asked.',
  },
  lost: { label: 'Lost', tone: 'bad', shape: 'question', says: 'The machine was not heard of any more. Not charged.' },
}

export const gpuLooks: Record<
  GpuStatus | 'finishing' | 'partly_in_use' | 'cooling_down' | 'on_trial' | 'silent',
  Look
> = {
  available: { label: 'Available', tone: 'ok', shape: 'full', says: 'It could take a task now.' },
  in_use: { label: 'In use', tone: 'busy', shape: 'orbit', says: 'A task runs on it.' },
  maintenance: { label: 'Paused', tone: 'wait', shape: 'pause', says: 'Its owner takes no new tasks.' },
  offline: { label: 'Offline', tone: 'neutral', shape: 'hollow', says: 'No connected agent backs it.' },
  finishing: { label: 'Finishing', tone: 'busy', shape: 'arc', says: 'Its last task ends, then it is paused.' },
  partly_in_use: {
    label: 'Partly in use',
    tone: 'ok',
    shape: 'half',
    says: 'Tasks have shares of it; the rest is free.',
  },
  cooling_down: {
    label: 'Cooling down',
    tone: 'wait',
    shape: 'back',
    says: 'It has failed, and is left alone a while.',
  },
  on_trial: {
    label: 'On trial',
    tone: 'wait',
    shape: 'half',
    says: 'It has failed often: asked where no other is free.',
  },
  silent: { label: 'Silent', tone: 'bad', shape: 'question', says: 'Its machine has not been heard of for a while.' },
}

/** What a GPU is to somebody who looks at it: its status, and what else keeps it from being just that. */
export function gpuLook({
  status,
  draining,
  liveness,
  health,
  free_milli,
}: Pick<Gpu, 'status' | 'draining' | 'liveness' | 'health' | 'free_milli'>) {
  if (status === 'offline') return gpuLooks[liveness === 'unknown' ? 'silent' : 'offline']
  if (status === 'in_use') return gpuLooks[draining ? 'finishing' : free_milli > 0 ? 'partly_in_use' : 'in_use']
  if (status === 'available' && health !== 'good') return gpuLooks[health]
  return gpuLooks[status]
}

export const paymentLooks: Record<z.infer<typeof PaymentStatus>, Look> = {
  pending: { label: 'In review', tone: 'wait', shape: 'half', says: 'Held until its renter pays or the time is over.' },
  disputed: { label: 'Disputed', tone: 'bad', shape: 'question', says: 'An administrator will decide.' },
  completed: { label: 'Paid', tone: 'ok', shape: 'check', says: 'The provider has it.' },
  refunded: { label: 'Refunded', tone: 'neutral', shape: 'back', says: 'The renter has it back.' },
}

export const taskTypeNames = {
  text_generation: 'Text',
  image_generation: 'Images',
  embedding: 'Embeddings',
  model_training: 'Training',
  container: 'Container',
  other: 'Other',
} as const
