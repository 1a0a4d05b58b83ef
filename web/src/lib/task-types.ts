import type { api, OutputOf } from '@orbyte/protocol'

export type Task = OutputOf<typeof api.tasks.get>
export type TaskSummary = OutputOf<typeof api.tasks.create>
export type Attempt = Task['attempts'][number]

/** What to call a task: its title, or what it is to do. */
export function titleOf(task: TaskSummary & Partial<Pick<Task, 'input_data'>>, typeName: string): string {
  if (task.title) return task.title
  const prompt = task.input_data?.['prompt']
  return typeof prompt === 'string' ? prompt.slice(0, 90) : typeName
}
