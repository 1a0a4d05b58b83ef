import { expect, test } from 'vitest'
import type { EventType } from '@orbyte/protocol'
import type { Transaction } from './db/database.ts'
import { migrate } from './db/migrations.ts'
import { openSqlite } from './db/sqlite-database.ts'
import { createEventLog, type StoredEvent } from './event-store.ts'
import { manualClock } from './manual-clock.ts'

test('a listener that throws keeps no event from the others, and is reported', async () => {
  const reported: unknown[] = []
  const database = openSqlite(':memory:', { onEffectError: (error) => reported.push(error) })
  await migrate(database, { backupPath: null })
  const events = createEventLog(manualClock(0))
  const heard: string[] = []
  events.subscribe(() => {
    throw new Error('a listener broke')
  })
  events.subscribe(({ user_id }) => heard.push(user_id!))
  for (const user_id of ['user_a', 'user_b'])
    await database.transaction((tx) => events.append(tx, { type: 'payment.settled', task_id: null, user_id }))
  expect(heard).toEqual(['user_a', 'user_b'])
  expect(reported).toEqual([new Error('a listener broke'), new Error('a listener broke')])
  await database.close()
})

async function openLog() {
  const database = openSqlite(':memory:')
  await migrate(database, { backupPath: null })
  const events = createEventLog(manualClock(0))
  const heard: StoredEvent[] = []
  events.subscribe((event) => heard.push(event))
  const append = (tx: Transaction, type: EventType, task_id: string) =>
    events.append(tx, { type, task_id, user_id: 'user_a', data: { of: task_id } })
  const stored = (taskId: string) =>
    database.read((reader) => events.ofTask(reader, { taskId, after: 0, limit: 1_000 }))
  return { database, events, heard, append, stored }
}

test('the events of a commit have the cursors that subscribers hear, in their sequence, without those of what failed', async () => {
  const { database, heard, append, stored } = await openLog()
  const all = Array.from({ length: 30 }, (_, number) =>
    database.transaction(async (tx) => {
      await append(tx, 'task.queued', 'task_1')
      await tx.run('UPDATE settings SET value = value')
      if (number % 7 === 3) throw new RangeError('it fails')
      await append(tx, 'attempt.accepted', `task_${number}`)
    }),
  )
  await Promise.allSettled(all)
  await database.transaction((tx) => append(tx, 'task.completed', 'task_1'))
  const cursors = heard.map(({ cursor }) => cursor)
  expect(cursors).toEqual([...cursors].sort((a, b) => a - b))
  expect(new Set(cursors).size).toBe(2 * 26 + 1)
  expect(await stored('task_1')).toEqual(heard.filter(({ task_id }) => task_id === 'task_1'))
  expect(await stored('task_3')).toEqual([])
  await database.close()
})

test('what a task has put out is deleted with what the same commit has told of it; the rest stays, also where that fails', async () => {
  const { database, events, append, stored } = await openLog()
  const output = (text: string) =>
    database.transaction(async (tx) => {
      await append(tx, 'output.appended', text)
      await append(tx, 'attempt.ready', text)
    })
  const remove = (taskId: string, fails = false) =>
    database.transaction(async (tx) => {
      await events.deleteProduce(tx, taskId)
      if (fails) throw new RangeError('it fails')
    })
  await Promise.allSettled([
    output('task_1'),
    output('task_2'),
    remove('task_1'),
    output('task_3'),
    remove('task_2', true),
  ])
  const typesOf = async (taskId: string) => (await stored(taskId)).map(({ type }) => type)
  expect(await typesOf('task_1')).toEqual(['attempt.ready'])
  expect(await typesOf('task_2')).toEqual(['output.appended', 'attempt.ready'])
  expect(await typesOf('task_3')).toEqual(['output.appended', 'attempt.ready'])
  await database.close()
})
