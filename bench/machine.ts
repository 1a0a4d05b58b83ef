import { mkdtemp, open, rm } from 'node:fs/promises'
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { median, percentile } from './figures.ts'

const writes = 200
const bytesEach = 4_096

/** What timings depend on that is not ours: how busy the machine is, and how long its disk takes to keep something. */
export async function machineNow(folder: string = tmpdir()): Promise<string> {
  const own = await mkdtemp(join(folder, 'orbyte-bench-disk-'))
  try {
    const ms = await durableWritesMs(join(own, 'file'))
    const disk = `a durable write of 4 KB takes ${median(ms).toFixed(2)} ms (p99 ${percentile(ms, 0.99).toFixed(2)})`
    return `${availableParallelism()} cores (${cpus()[0]?.model ?? 'unknown'}), load ${loadavg()[0]!.toFixed(1)}; ${disk}`
  } finally {
    await rm(own, { recursive: true, force: true })
  }
}

async function durableWritesMs(path: string): Promise<number[]> {
  const file = await open(path, 'w')
  const bytes = Buffer.alloc(bytesEach, 1)
  const ms: number[] = []
  for (let made = 0; made < writes; made++) {
    const beganMs = performance.now()
    await file.write(bytes, 0, bytesEach, made * bytesEach)
    await file.datasync()
    ms.push(performance.now() - beganMs)
  }
  await file.close()
  return ms
}
