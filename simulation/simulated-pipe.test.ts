import fc from 'fast-check'
import { expect, test } from 'vitest'
import { seededRandom } from './seeded-random.ts'
import { simulatedClock } from './simulated-clock.ts'
import type { Mishap } from './simulated-network.ts'
import { createPipe } from './simulated-pipe.ts'

function pipeWith({ mishaps = [] as Mishap[], latencyMsMax = 50 } = {}) {
  const clock = simulatedClock()
  const random = seededRandom(1)
  const arrived: string[] = []
  const weather = { isCut: false }
  const left = [...mishaps]
  const pipe = createPipe({
    clock,
    random,
    latencyMs: () => random.integer(1, latencyMsMax),
    isCut: () => weather.isCut,
    mishap: () => left.shift() ?? null,
    deliver: (item) => arrived.push('text' in item ? item.text : `closed: ${item.closed}`),
  })
  const pass = async (forMs: number) => {
    const untilMs = clock.nowMs() + forMs
    while (await clock.step(untilMs));
  }
  return { pipe, arrived, weather, pass, put: (...texts: string[]) => texts.forEach((text) => pipe.put({ text })) }
}

test('what is put in arrives once and in order, however it is held up', async () => {
  const event = fc.constantFrom('put', 'cut', 'heal', 'stall', 'wait')
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 40 }), async (events) => {
      const { pipe, arrived, weather, pass, put } = pipeWith()
      let count = 0
      for (const what of events) {
        if (what === 'put') put(String(++count))
        if (what === 'cut') weather.isCut = true
        if (what === 'stall') pipe.stall(300)
        if (what === 'wait') await pass(20)
        if (what === 'heal') {
          weather.isCut = false
          pipe.goOn()
        }
      }
      weather.isCut = false
      pipe.goOn()
      await pass(1_000)
      expect(arrived).toEqual(Array.from({ length: count }, (_, index) => String(index + 1)))
      expect(pipe.heldBytes()).toBe(0)
    }),
  )
})

test.for<[Mishap, string[]]>([
  ['dropped', ['b', 'c']],
  ['duplicated', ['a', 'a', 'b', 'c']],
  ['reordered', ['a', 'b', 'c']],
  ['delayed', ['a', 'b', 'c']],
])('a message may be %s', async ([mishap, expected]) => {
  const { arrived, pass, put } = pipeWith({ mishaps: [mishap] })
  put('a', 'b', 'c')
  await pass(60_000)
  expect([...arrived].sort()).toEqual(expected)
  if (mishap === 'reordered') expect(arrived).toEqual(['b', 'a', 'c'])
  if (mishap === 'delayed') expect(arrived).toEqual(['a', 'b', 'c'])
})

test('a message that is to change places with the next one goes alone where none follows', async () => {
  const { arrived, pass, put } = pipeWith({ mishaps: ['reordered'] })
  put('a')
  await pass(10_000)
  expect(arrived).toEqual(['a'])
})

test('nothing arrives from a pipe that is lost; of one whose process died the last may be missing', async () => {
  const lost = pipeWith()
  lost.put('a')
  lost.pipe.lose()
  lost.put('b')
  await lost.pass(1_000)
  expect(lost.arrived).toEqual([])
  const died = pipeWith()
  died.put('a', 'b', 'c', 'd')
  died.pipe.loseTheLast()
  died.pipe.put({ closed: 'it died' })
  await died.pass(1_000)
  expect(died.arrived.at(-1)).toBe('closed: it died')
  expect(['a', 'b', 'c', 'd'].slice(0, died.arrived.length - 1)).toEqual(died.arrived.slice(0, -1))
})
