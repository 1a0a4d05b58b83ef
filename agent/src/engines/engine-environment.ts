import type { ExecutorDevice } from '../executors/executor.ts'

export type Environment = Readonly<Record<string, string | undefined>>

const systemVariables = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'TEMP', 'TMP', 'SystemRoot', 'windir', 'USERPROFILE']
const driverVariables = [
  'LD_LIBRARY_PATH',
  'DYLD_LIBRARY_PATH',
  'CUDA_HOME',
  'CUDA_PATH',
  'VK_DRIVER_FILES',
  'VK_ICD_FILENAMES',
  'XDG_DATA_DIRS',
  'XDG_RUNTIME_DIR',
]
const networkVariables = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy']
const certificateVariables = ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR']

/**
 * What an engine's process sees of the agent's environment: what finds programs and drivers, and none of the secrets.
 * The rented GPUs are the only ones that are visible to it. `mpsFolder`: where NVIDIA's MPS listens, which keeps a process to its
 * share of a GPU's time and VRAM; null: it does not run, and the driver lets all processes take turns.
 */
export function engineEnvironment(
  host: Environment,
  devices: readonly ExecutorDevice[],
  mpsFolder: string | null = null,
): Record<string, string> {
  const environment = pick(host, [...systemVariables, ...driverVariables])
  const gpus = devices.filter(({ kind }) => kind === 'gpu')
  const [first] = gpus
  if (first === undefined) return environment
  const indexes = gpus.map(({ index }) => index).join(',')
  // CUDA takes NVIDIA's own uuids, which say which card is meant even when the numbering differs; the others count.
  const isNvidia = gpus.every(({ uuid }) => /^(GPU|MIG)-/.test(uuid))
  if (isNvidia) environment['CUDA_VISIBLE_DEVICES'] = gpus.map(({ uuid }) => uuid).join(',')
  const mps = isNvidia && first.vramMib !== null && mpsFolder !== null ? mpsVariables(first, mpsFolder) : {}
  return { ...environment, HIP_VISIBLE_DEVICES: indexes, GGML_VK_VISIBLE_DEVICES: indexes, ...mps }
}

/** What NVIDIA's driver may take in each process beside the renter's share: on an H200 by CUDA 610 MiB, as a client of MPS 150. */
export const driverMibMax = 768

/** "0": the process sees one device. */
function mpsVariables({ milli, vramMib }: ExecutorDevice, mpsFolder: string): Record<string, string> {
  return {
    CUDA_MPS_PIPE_DIRECTORY: mpsFolder,
    CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: String(Math.ceil(milli / 10)),
    CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: `0=${vramMib! + driverMibMax}M`,
  }
}

/** Where the control daemon of MPS listens, if it runs. `exists`: whether there is such a file. */
export function mpsFolderOf(host: Environment, exists: (path: string) => boolean): string | null {
  const folder = host['CUDA_MPS_PIPE_DIRECTORY'] ?? '/tmp/nvidia-mps'
  return exists(`${folder}/control`) ? folder : null
}

/** What npm sees when it installs engines: its own settings, the way to the network, and none of the secrets. */
export function installEnvironment(host: Environment): Record<string, string> {
  const npmSettings = Object.keys(host).filter((name) =>
    /^npm_config_(registry|cache|prefer_offline|offline)$/i.test(name),
  )
  return pick(host, [...systemVariables, ...networkVariables, ...certificateVariables, 'APPDATA', ...npmSettings])
}

function pick(host: Environment, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (host[name] === undefined ? [] : [[name, host[name]]])))
}
