import { expect, test } from 'vitest'
import { createTurns } from './agent-turns.ts'

/** Works that end when they are told to. */
function works() {
  const begun: number[] = []
  const ends = new Map<number, (error?: Error) => void>()
  const work = (number: number) => () => {
    begun.push(number)
    return new Promise<number>((resolve, reject) =>
      ends.set(number, (error) => (error ? reject(error) : resolve(number))),
    )
  }
  return { begun, work, end: (number: number, error?: Error) => ends.get(number)!(error) }
}

test('so many go on at a time, the others in the sequence in which they came, also after one that has failed', async () => {
  const inTurn = createTurns(2)
  const { begun, work, end } = works()
  const results = [1, 2, 3, 4, 5].map((number) => inTurn(work(number)))
  expect(begun).toEqual([1, 2])
  end(2)
  expect(await results[1]).toBe(2)
  expect(begun).toEqual([1, 2, 3])
  end(1, new Error('as the test wants it'))
  await expect(results[0]).rejects.toThrow('as the test wants it')
  expect(begun).toEqual([1, 2, 3, 4])
  end(3)
  await results[2]
  end(4)
  await results[3]
  end(5)
  expect(await results[4]).toBe(5)
  const last = inTurn(work(6))
  expect(begun).toEqual([1, 2, 3, 4, 5, 6])
  end(6)
  expect(await last).toBe(6)
})
