import { dateTime } from './format.ts'
import type { Gpu } from './market.svelte.ts'

export type Standing = { short: string; title: string; next: string }

/** Whether a GPU can earn now; if not, why, and what its owner can do. */
export function standingOf(gpu: Gpu): Standing {
  if (gpu.liveness === null)
    return {
      short: 'no agent yet',
      title: 'No agent has ever backed it',
      next: 'Start the agent on its machine. It becomes this GPU if its model is the same and its memory within 5 %.',
    }
  if (gpu.status === 'offline')
    return {
      short: 'not connected',
      title: 'Its machine is not connected',
      next: 'See on the machine whether the agent runs: orbyte agent status. It comes back by itself when the network does.',
    }
  if (gpu.status === 'in_use')
    return gpu.draining
      ? {
          short: 'finishing, then paused',
          title: 'It finishes a task, then pauses',
          next: 'Take it back at once if you need it now: the task then runs elsewhere and pays nothing.',
        }
      : { short: 'earning', title: 'It earns', next: 'A task runs on it. Its pay arrives when the task ends.' }
  if (gpu.status === 'maintenance')
    return {
      short: 'paused',
      title: 'It is paused',
      next: 'Resume it here, or on the machine: orbyte agent resume. Hours that you have set there also pause it.',
    }
  if (gpu.task_types.length === 0)
    return {
      short: 'can run nothing',
      title: 'Its agent can run no type of task',
      next: 'Ask on the machine what is missing: orbyte agent doctor.',
    }
  if (gpu.health === 'cooling_down')
    return {
      short: 'cooling down',
      title: 'It is left alone for a while',
      next: `It has failed, or did not answer. Tasks are offered to it again ${gpu.cool_down_until ? `from ${dateTime(gpu.cool_down_until)}` : 'soon'}; below stands what went wrong.`,
    }
  if (gpu.health === 'on_trial')
    return {
      short: 'on trial',
      title: 'It has to prove itself',
      next: 'It has failed several times in a row, and gets a task only where no other GPU is free. One that it completes makes it as good as any.',
    }
  return {
    short: 'ready',
    title: 'It is ready for tasks',
    next: 'Tasks go to the cheapest GPU that fits. Where it waits long, compare its price with others like it.',
  }
}
