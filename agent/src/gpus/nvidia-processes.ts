import type { RunCommand } from './gpu-detector.ts'

/** MiB of VRAM that each process uses, over all GPUs, by process id; null: that cannot be seen. */
export type ReadVram = () => Promise<ReadonlyMap<number, number> | null>

/** What NVIDIA's driver says of the processes on its GPUs. One that asks while another waits gets the same answer. */
export function createNvidiaVramReader({ run }: { readonly run: RunCommand }): ReadVram {
  let asked: ReturnType<ReadVram> | null = null
  async function ask() {
    // What computes, what draws, and what does both, as Vulkan may: --query-compute-apps leaves out what only draws.
    const result = await run('nvidia-smi', ['-q', '-d', 'PIDS'])
    asked = null
    return result?.exitCode === 0 ? parseProcesses(result.stdout) : null
  }
  return () => (asked ??= ask())
}

/** A "Process ID" and, some lines below, its "Used GPU Memory", for each process on each GPU. One of unknown use is left out. */
export function parseProcesses(text: string): Map<number, number> {
  const usedMib = new Map<number, number>()
  let pid = 0
  for (const line of text.split('\n')) {
    const [, name, value] = /^\s*(Process ID|Used GPU Memory)\s*:\s*(\d+)/.exec(line) ?? []
    if (name === 'Process ID') pid = Number(value)
    else if (name !== undefined) usedMib.set(pid, (usedMib.get(pid) ?? 0) + Number(value))
  }
  return usedMib
}
