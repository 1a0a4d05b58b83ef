/** What computes on this machine besides its processor. */
export type Accelerator = 'cuda' | 'vulkan' | 'none'

export type Machine = {
  /** As `process.platform` and `process.arch` say. */
  readonly platform: string
  readonly arch: string
  readonly accelerator: Accelerator
}

/** The same versions as in package.json: a test compares them. */
export const engineVersions = { 'node-llama-cpp': '3.21.1', 'onnxruntime-node': '1.30.0' } as const

const llamaPlatforms: Readonly<Record<string, string>> = {
  'linux-x64': 'linux-x64',
  'linux-arm64': 'linux-arm64',
  'linux-arm': 'linux-armv7l',
  'linux-riscv64': 'linux-riscv64',
  'darwin-arm64': 'mac-arm64-metal',
  'darwin-x64': 'mac-x64',
  'win32-x64': 'win-x64',
  'win32-arm64': 'win-arm64',
}
/** Binaries for GPUs exist for these only; on a Mac with Apple silicon the plain package uses the GPU. */
const acceleratedPlatforms = ['linux-x64', 'win-x64']
const onnxPlatforms = ['linux-x64', 'linux-arm64', 'darwin-arm64', 'win32-x64', 'win32-arm64']

/**
 * The npm packages that this machine needs, with their versions: 85 MB and 45 MB, where all that could be installed is
 * 725 MB and 290 MB. Empty if there is no engine for it.
 */
export function enginePackages({ platform, arch, accelerator }: Machine): Record<string, string> {
  const packages: Record<string, string> = {}
  const llamaPlatform = llamaPlatforms[`${platform}-${arch}`]
  if (llamaPlatform !== undefined) {
    const version = engineVersions['node-llama-cpp']
    packages['node-llama-cpp'] = version
    for (const variant of variantsOf(llamaPlatform, accelerator)) packages[`@node-llama-cpp/${variant}`] = version
  }
  if (onnxPlatforms.includes(`${platform}-${arch}`)) {
    packages['onnxruntime-node'] = engineVersions['onnxruntime-node']
  }
  return packages
}

/** The plain one is always there: an agent may offer its CPU, and falls back to nothing without being asked. */
function variantsOf(llamaPlatform: string, accelerator: Accelerator): string[] {
  if (!acceleratedPlatforms.includes(llamaPlatform) || accelerator === 'none') return [llamaPlatform]
  if (accelerator === 'vulkan') return [llamaPlatform, `${llamaPlatform}-vulkan`]
  // Where the CUDA runtime is not installed, or newer than the driver, Vulkan still works: it needs the driver only.
  return [llamaPlatform, `${llamaPlatform}-cuda`, `${llamaPlatform}-cuda-ext`, `${llamaPlatform}-vulkan`]
}

export type AcceleratorProbe = {
  /** Whether a program of this name runs and succeeds. */
  runs(program: string, args: readonly string[]): Promise<boolean>
  /** Whether this path exists. */
  exists(path: string): boolean
}

const vulkanLoaders = [
  '/usr/lib/x86_64-linux-gnu/libvulkan.so.1',
  '/usr/lib64/libvulkan.so.1',
  '/usr/lib/libvulkan.so.1',
  'C:\\Windows\\System32\\vulkan-1.dll',
]

/** CUDA where NVIDIA's driver lists a GPU; else Vulkan where its loader is installed and there is a GPU to render with. */
export async function detectAccelerator(platform: string, { runs, exists }: AcceleratorProbe): Promise<Accelerator> {
  if (platform !== 'linux' && platform !== 'win32') return 'none'
  if (await runs('nvidia-smi', ['-L'])) return 'cuda'
  const hasGpu = platform === 'win32' || exists('/dev/dri/renderD128')
  return hasGpu && vulkanLoaders.some(exists) ? 'vulkan' : 'none'
}
