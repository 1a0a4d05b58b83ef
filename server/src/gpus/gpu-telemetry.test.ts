import { expect, test } from 'vitest'
import { migrate } from '../db/migrations.ts'
import { openSqlite } from '../db/sqlite-database.ts'
import { manualClock } from '../manual-clock.ts'
import { agentId, gpuId, gpuRecord, reportedDevice } from './fixture-gpus.ts'
import { GpuRegistry } from './gpu-registry.ts'
import { createTelemetryRecorder } from './gpu-telemetry.ts'

const startMs = 1_800_000_000_000
const unknown = { utilization_percent: null, vram_used_gb: null, temperature_celsius: null, power_watts: null }

async function recorded() {
  const clock = manualClock(startMs)
  const database = openSqlite(':memory:')
  await migrate(database, { backupPath: null })
  const registry = new GpuRegistry(clock)
  const recorder = createTelemetryRecorder({ clock, database }, registry)
  const add = (number: number) => {
    registry.put(gpuRecord({ id: gpuId(number), agentId: agentId(number) }))
    registry.connect(agentId(number), [{ gpuId: gpuId(number), device: reportedDevice() }])
  }
  const say = (number: number, watts: number | null, percent: number | null = null) =>
    registry.setTelemetry(gpuId(number), { ...unknown, power_watts: watts, utilization_percent: percent })
  const rows = () =>
    database.read((reader) =>
      reader.all('SELECT gpu_id, at, power_watts, utilization_percent FROM gpu_telemetry ORDER BY at, gpu_id'),
    )
  return { clock, registry, recorder, add, say, rows, close: () => database.close() }
}

test('of each minute and GPU the averages of what was reported are kept', async () => {
  const { clock, recorder, add, say, rows, close } = await recorded()
  for (let number = 0; number < 300; number++) add(number)
  say(7, 100)
  say(299, 10, 50)
  say(7, 201)
  say(299, null, 51)
  clock.advance(60_000)
  say(7, 5)
  await recorder.writeMinutes()
  const at = new Date(startMs).toISOString()
  const ofReported = async () => (await rows()).filter(({ power_watts }) => power_watts !== null)
  expect(await ofReported()).toEqual([
    { gpu_id: gpuId(7), at, power_watts: 150.5, utilization_percent: null },
    { gpu_id: gpuId(299), at, power_watts: 10, utilization_percent: 50.5 },
  ])
  await recorder.stop()
  expect((await ofReported()).at(-1)).toMatchObject({ gpu_id: gpuId(7), power_watts: 5 })
  await close()
})

test('a GPU that has another’s number has nothing of its minute', async () => {
  const { clock, registry, recorder, add, say, rows, close } = await recorded()
  add(1)
  say(1, 300)
  const { number } = registry.get(gpuId(1))!
  registry.remove(gpuId(1))
  add(2)
  expect(registry.get(gpuId(2))!.number).toBe(number)
  say(2, 20)
  clock.advance(60_000)
  await recorder.writeMinutes()
  expect(await rows()).toMatchObject([{ gpu_id: gpuId(2), power_watts: 20 }])
  await close()
})
