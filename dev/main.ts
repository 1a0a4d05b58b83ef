import { createClient } from '@orbyte/sdk'
import { systemEnvironment } from '@orbyte/server/config.ts'
import { demoPassword, startNetwork, until } from './network.ts'

/**
 * `npm run dev`: the whole product in one process, in memory, with emulated GPUs and people who use them. Restarted on every
 * change of a source; PORT (8000) is where it listens.
 */
const network = await startNetwork({
  machines: ['RTX 4090:24x2', 'H100:80'],
  port: Number(systemEnvironment().PORT ?? 8_000),
  logLevel: 'info',
})
const { url, alice } = network

process.stdout.write(`
Orbyte for development at ${url}   (everything is in memory; the GPUs are emulated, the models are real)

  Web app             http://localhost:5173
  API documentation   ${url}/api/docs
  Bob, a provider     bob@example.org     ${demoPassword}
  Alice, a renter     alice@example.org   ${demoPassword}
  Carol, the admin    carol@example.org   ${demoPassword}

  ORBYTE_URL=${url} npx tsx cli/src/main.ts login alice@example.org
  ORBYTE_URL=${url} npx tsx cli/src/main.ts run text "Once upon a time"

`)

let stopped = false
const stop = () => {
  if (stopped) return
  stopped = true
  network.close().then(
    () => process.exit(0),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`)
      process.exit(1)
    },
  )
}
process.on('SIGINT', stop).on('SIGTERM', stop)

await network.gpusAvailable(3)
await keepBusy()

/** There is always something to look at: a story now and then, and one GPU that is busy. */
async function keepBusy() {
  const renter = createClient({ url, token: (await alice.client.apiKeys.create({ name: 'development' })).key })
  for (let round = 1; !stopped; round++) {
    const busy = await renter.tasks.create({
      task_type: 'other',
      title: `A pretended training run, round ${round}`,
      input_data: { sleep_ms: 60_000, output: 'epoch after epoch', chunks: 30 },
      wait: true,
      max_price_per_hour: '5',
    })
    await renter.tasks.create({
      task_type: 'text_generation',
      title: `A story, round ${round}`,
      input_data: { prompt: 'Once upon a time', seed: round },
      wait: true,
      max_price_per_hour: '5',
    })
    await until(
      async () => stopped || (await renter.tasks.get({ task_id: busy.id })).completed_at !== null,
      'the round to end',
      120_000,
    )
  }
}
