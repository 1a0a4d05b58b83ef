import { expect, test } from 'vitest'
import { migrate } from './db/migrations.ts'
import { openSqlite } from './db/sqlite-database.ts'
import { createEventLog } from './event-store.ts'
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
