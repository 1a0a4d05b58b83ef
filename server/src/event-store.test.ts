import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { EventType, MarketEvent } from '@orbyte/protocol'
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

const anyEvent = fc.record({
  type: fc.constantFrom<EventType>(
    'attempt.ready',
    'attempt.ended',
    'task.completed',
    'output.appended',
    'output.reset',
  ),
  task_id: fc.constantFrom('task_1', 'task_1', 'task_1', 'task_2', null),
  attempt_id: fc.constantFrom('att_1', 'att_1', null),
  user_id: fc.constantFrom('user_a', 'user_a', 'user_b'),
  provider_id: fc.constantFrom('user_p', 'user_p', 'user_q', null),
  data: fc.constantFrom<MarketEvent['data']>({}, { a: 'é' }, { end: { code: 'x' } }),
})

test('whatever a commit tells, and wherever one goes on, each event comes once, as it was heard, to those whose it is', async () => {
  const commits = fc.array(fc.array(anyEvent, { minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(commits, fc.nat(60), fc.integer({ min: 1, max: 30 }), async (told, after, count) => {
      const { database, events, heard } = await openLog()
      for (const all of told)
        await database.transaction(async (tx) => {
          for (const event of all) await events.append(tx, event)
        })
      await database.read(async (reader) => {
        const ofTask = await events.ofTask(reader, { taskId: 'task_1', after, limit: count })
        const sought = heard.filter(({ cursor, task_id }) => cursor > after && task_id === 'task_1')
        expect(ofTask).toEqual(sought.slice(0, count))
        const upTo = after + count
        const within = heard.filter(
          ({ cursor, type }) => cursor > after && cursor <= upTo && type !== 'output.appended',
        )
        for (const [as, userId] of [
          ['renter', 'user_a'],
          ['provider', 'user_p'],
        ] as const) {
          const own = within.filter((event) => event[as === 'renter' ? 'user_id' : 'provider_id'] === userId)
          expect(await events.ofUser(reader, { userId, as, after, upTo })).toEqual(own)
        }
        expect(await events.head(reader)).toBe(told.flat().length)
      })
      await database.close()
    }),
    { numRuns: 100 },
  )
})

test('of many events of one moment, as many as are asked for come, and each once', async () => {
  const { database, events, heard, append } = await openLog()
  await database.transaction(async (tx) => {
    for (let count = 0; count < 20; count++) await append(tx, 'attempt.ready', 'task_1')
  })
  await database.read(async (reader) => {
    for (let after = 0; after <= 20; after++)
      for (let upTo = after + 1; upTo <= 21; upTo++) {
        const sought = heard.slice(after, upTo)
        expect(await events.ofUser(reader, { userId: 'user_a', as: 'renter', after, upTo })).toEqual(sought)
        expect(await events.ofTask(reader, { taskId: 'task_1', after, limit: upTo - after })).toEqual(sought)
      }
  })
  await database.close()
})

test('what is told of an attempt at one moment is one row, but for what it puts out', async () => {
  const { database, append } = await openLog()
  await database.transaction(async (tx) => {
    for (const type of [
      'attempt.accepted',
      'attempt.ready',
      'output.appended',
      'attempt.ended',
      'task.completed',
    ] as const)
      await append(tx, type, 'task_1')
  })
  const rows = await database.read((reader) => reader.all('SELECT cursor, type FROM events ORDER BY cursor'))
  expect(rows).toEqual([
    { cursor: 2, type: 'attempt.ready' },
    { cursor: 3, type: 'output.appended' },
    { cursor: 5, type: 'task.completed' },
  ])
  await database.close()
})
