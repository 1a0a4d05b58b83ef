import { expect, test } from 'vitest'
import { simulateOptions, UsageError } from './simulate-options.ts'

const of = (line: string) => simulateOptions(line.split(' ').filter(Boolean), 2)

test('what nobody says has a default that works', () => {
  expect(of('')).toEqual({
    ...{ mode: 'seeds', first: 1, count: 100, untilBroken: false },
    ...{ hours: 24, processes: 2, isJson: false },
  })
  expect(of('--defects')).toMatchObject({ mode: 'defects', only: null, seedsMax: 150 })
})

test('one seed is lived through, or printed', () => {
  expect(of('--seed 17')).toMatchObject({ mode: 'seeds', first: 17, count: 1 })
  expect(of('--seed 17 --hours 6 --trace')).toMatchObject({ mode: 'trace', seed: 17, hours: 6 })
})

test.for([
  ['--seeds many', '--seeds: give a whole number from 1 to 10000000, not "many".'],
  ['--seeds 0', '--seeds: give a whole number from 1 to 10000000, not "0".'],
  ['--hours 1.5', '--hours: give a whole number from 1 to 10000, not "1.5".'],
  ['--trace', '--trace prints one world: say which, with --seed N.'],
  ['--seed 1 --seeds 5', '--seeds has no meaning beside --seed. Leave one of them out.'],
  ['--defects --seed 3', '--seed has no meaning beside --defects. Leave one of them out.'],
  ['--sedes 5', "Unknown option '--sedes'. See npm run simulate -- --help."],
  ['--seeds', "Option '--seeds <value>' argument missing. See npm run simulate -- --help."],
  ['17', "Unexpected argument '17'. See npm run simulate -- --help."],
])('%s is answered with what to write instead', ([line, message]) => {
  expect(() => of(line!)).toThrow(UsageError)
  expect(() => of(line!)).toThrow(message)
})
