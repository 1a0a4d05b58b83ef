import type { RunCommand } from './gpu-detector.ts'

/** MiB of VRAM that each process uses, over all GPUs, by process id; nobody, where that cannot be seen. */
export type ReadVram = () => Promise<ReadonlyMap<number, number>>

/** What NVIDIA's driver says of the processes on its GPUs. One that asks while another waits gets the same answer. */
export function createNvidiaVramReader({ run }: { readonly run: RunCommand }): ReadVram {
  let asked: Promise<ReadonlyMap<number, number>> | null = null
  async function ask() {
    const result = await run('nvidia-smi', [
      '--query-compute-apps=pid,used_gpu_memory',
      '--format=csv,noheader,nounits',
    ])
    asked = null
    return parseComputeApps(result?.exitCode === 0 ? result.stdout : '')
  }
  return () => (asked ??= ask())
}

/** "12345, 4210", a line for each process on each GPU. One that the driver says nothing of is left out. */
export function parseComputeApps(text: string): Map<number, number> {
  const usedMib = new Map<number, number>()
  for (const line of text.split('\n')) {
    const [, pid, used] = /^\s*(\d+)\s*,\s*(\d+)(?:\s*MiB)?\s*$/.exec(line) ?? []
    if (pid !== undefined) usedMib.set(Number(pid), (usedMib.get(Number(pid)) ?? 0) + Number(used))
  }
  return usedMib
}
