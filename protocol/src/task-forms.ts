import { z } from 'zod'
import { taskInputs, type TaskType } from './task-types.ts'

/** The schema of a task type's input as JSON Schema (2020-12), for whoever makes a form of it. Fields with a default may be left out. */
export function taskInputJsonSchema(taskType: TaskType): Record<string, unknown> {
  return z.toJSONSchema(taskInputs[taskType], { io: 'input', reused: 'inline', unrepresentable: 'any' }) as Record<
    string,
    unknown
  >
}
