import { readFile } from 'node:fs/promises'
import { NewTask as NewTaskSchema } from '@orbyte/protocol'
import type { Cli } from './cli.ts'
import { CliError, exitCodes, unreadable } from './exit-codes.ts'
import type { Task } from './follow.ts'
import { readStdin } from './prompt.ts'
import type { NewTask } from './run-task-command.ts'

/** The one task of a JSON file. The market checks its fields. */
export async function taskFromFile(cli: Cli, path: string): Promise<NewTask> {
  const [task, ...more] = await tasksFromFile(cli, path)
  if (!task || more.length > 0)
    throw new CliError(`${path} must hold one task. For several: orbyte tasks submit ${path}`, exitCodes.usage)
  return task
}

/** A JSON object, an array of them, an object with `tasks`, or JSON Lines. */
export async function tasksFromFile(cli: Cli, path: string): Promise<NewTask[]> {
  const tasks = parseTasks(path === '-' ? await readStdin(cli.terminal) : await readText(path))
  if (tasks.length > 0 && tasks.every((task) => typeof task === 'object' && task !== null && 'task_type' in task))
    return tasks as NewTask[]
  const example = JSON.stringify({ task_type: 'text_generation', input_data: { prompt: 'Once' } })
  throw new CliError(
    `${path === '-' ? 'Standard input' : path} holds no tasks. A task looks like ${example}; several are a JSON array or one a line.`,
    exitCodes.usage,
  )
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw unreadable(path, error)
  }
}

function parseTasks(text: string): unknown[] {
  try {
    const document = JSON.parse(text) as unknown
    if (Array.isArray(document)) return document
    const { tasks } = (document ?? {}) as { tasks?: unknown }
    return Array.isArray(tasks) ? tasks : [document]
  } catch {
    const lines = text.split('\n').filter((line) => line.trim() !== '')
    try {
      return lines.map((line) => JSON.parse(line) as unknown)
    } catch {
      return []
    }
  }
}

/** What a task was submitted with, as far as it is still known: everything that both a new and a stored task have. */
export function newTaskFrom(task: Task): NewTask {
  if (task.input_data === null)
    throw new CliError(`The input of ${task.id} has been deleted, so it cannot be run again.`, exitCodes.notFound)
  const fields = Object.entries(task).filter(([name, value]) => name in NewTaskSchema.shape && value !== null)
  return Object.fromEntries(fields) as unknown as NewTask
}
