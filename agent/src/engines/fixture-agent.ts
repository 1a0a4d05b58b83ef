import { systemClock } from '../system-clock.ts'
import { EngineProcess, engineEntry } from './engine-process.ts'

/** A program for tests: an agent with one engine that does not listen and holds a connection to the port given. */
const engine = new EngineProcess({
  entry: engineEntry('fixture-engine'),
  enginesFolder: null,
  environment: {},
  clock: systemClock,
  log: () => {},
  leaseMs: 1_000,
})
await engine.run({
  params: { act: 'deaf', port: Number(process.argv[2]) },
  report: {
    preparing: () => {},
    ready: () => {},
    output: () => {},
    log: () => {},
    file: () => {},
  },
  signal: new AbortController().signal,
  attempt: { durationMsMax: 600_000 },
})
