import type { ExecutorProblem } from '../executors/executor.ts'

/** By what llama.cpp computes on GPUs. */
export const gpuLibraries = ['metal', 'cuda', 'vulkan'] as const
export type GpuLibrary = (typeof gpuLibraries)[number]

export const gpuLibraryNames: Readonly<Record<GpuLibrary, string>> = { metal: 'Metal', cuda: 'CUDA', vulkan: 'Vulkan' }

/** Which to try on a GPU, the better ones first. By its uuid, which says whose tool has found it. */
export function librariesFor(deviceUuid: string): readonly GpuLibrary[] {
  if (/^(GPU|MIG)-/.test(deviceUuid)) return ['cuda', 'vulkan']
  return deviceUuid.startsWith('Apple-') ? ['metal'] : ['vulkan']
}

export type LibraryFailure = ExecutorProblem & {
  readonly library: GpuLibrary
  /** Of the AttemptError. */
  readonly code: string
}

/** What to do about a library that does not compute on a GPU. */
export function libraryFailure(library: GpuLibrary, failed: { code: string; message: string }): LibraryFailure {
  const { message } = failed
  // A crash for want of memory says nothing of another time.
  const code = /out of memory/i.test(message) ? 'out_of_memory' : failed.code
  return { library, code, message, remedy: remedyOf(library, code, message) }
}

function remedyOf(library: GpuLibrary, code: string, message: string): string {
  if (code === 'out_of_memory') return 'Close what else uses the GPU, and start the agent again.'
  if (code === 'other_gpu') return 'Point VK_DRIVER_FILES to the driver’s own file (…/vulkan/icd.d/nvidia_icd.json).'
  if (code !== 'engine_unavailable') {
    // What the library has no machine code for, the driver translates, if it is no older: node-llama-cpp 3.21.1 is built with CUDA 13.1,
    // which came with driver 590.
    return /unsupported toolchain|no kernel image|driver version is insufficient/i.test(message)
      ? 'Install NVIDIA’s driver 590 or newer.'
      : 'Install a newer driver, and look at what the engine prints: --log-level debug.'
  }
  switch (library) {
    case 'cuda':
      return 'Install the CUDA runtime that the driver knows, 12 or 13 (NVIDIA’s packages like cuda-cudart-13-0 and libcublas-13-0), then: orbyte agent engines'
    case 'vulkan':
      return 'Install the Vulkan loader (libvulkan1), in a container also set NVIDIA_DRIVER_CAPABILITIES=all, then: orbyte agent engines'
    case 'metal':
      return 'Install the engines again: orbyte agent engines'
  }
}
