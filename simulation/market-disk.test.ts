import { expect, test } from 'vitest'
import { createMarketDisk, isDiskError } from './market-disk.ts'
import { seededRandom } from './seeded-random.ts'
import { simulatedClock } from './simulated-clock.ts'
import { simulatedProcess } from './simulated-process.ts'

/** A process on a disk with one table, and what becomes of a row that it adds. */
async function setUp() {
  const clock = simulatedClock()
  const disk = createMarketDisk(seededRandom(1))
  const process = simulatedProcess(clock, 'market')
  const database = disk.databaseFor(process)
  /** Asks for something, and lets time pass. */
  async function ask(sql: string): Promise<string> {
    let said = 'nothing'
    clock.after(0, () => {
      database
        .transaction((tx) => tx.run(sql))
        .then(
          () => (said = 'done'),
          (error: unknown) => (said = isDiskError(error) ? 'a disk error' : String(error)),
        )
    })
    while (await clock.step(clock.nowMs() + 10_000));
    return said
  }
  await ask('CREATE TABLE rows (n INTEGER)')
  const add = () => ask('INSERT INTO rows (n) VALUES (1)')
  const rows = () => disk.look('SELECT n FROM rows').length
  return { disk, process, add, rows }
}

test.for([
  ['undone', [0]],
  ['done', [1]],
  ['in doubt', [0, 1]],
] as const)('a process that dies at a commit says nothing, and leaves it %s', async ([fate, kept]) => {
  const { disk, process, add, rows } = await setUp()
  disk.decideNextCommit(fate, () => process.kill())
  expect([await add(), process.isAlive()]).toEqual(['nothing', false])
  expect(kept).toContain(rows())
  const after = rows()
  expect([await add(), rows()]).toEqual(['nothing', after])
})

test('a disk that is full or has errors says so, keeps nothing, and does its work again afterwards', async () => {
  const { disk, add, rows } = await setUp()
  Object.assign(disk.health, { isFull: true })
  expect([await add(), rows()]).toEqual(['a disk error', 0])
  Object.assign(disk.health, { isFull: false, errorChance: 1 })
  expect([await add(), rows()]).toEqual(['a disk error', 0])
  Object.assign(disk.health, { errorChance: 0 })
  expect([await add(), rows()]).toEqual(['done', 1])
})
