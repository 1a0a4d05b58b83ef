import { totalmem } from 'node:os'
import { createAmdDetector } from '@orbyte/agent/gpus/amd.ts'
import { createAppleDetector } from '@orbyte/agent/gpus/apple.ts'
import { createNvidiaDetector } from '@orbyte/agent/gpus/nvidia.ts'
import { systemRun } from '@orbyte/agent/system-machine.ts'

/** The names of this machine's GPUs, found as an agent finds them. */
export async function acceleratorsHere(): Promise<string[]> {
  const detectors = [
    createNvidiaDetector({ run: systemRun, ramBytes: totalmem() }),
    createAmdDetector({ run: systemRun }),
    createAppleDetector({ run: systemRun }),
  ]
  const found = await Promise.all(detectors.map((detector) => detector.detect().catch(() => [])))
  return found.flat().map(({ model }) => model)
}
