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
 * A rented GPU is the only one that is visible to it.
 */
export function engineEnvironment(host: Environment, device: ExecutorDevice | null): Record<string, string> {
  const environment = pick(host, [...systemVariables, ...driverVariables])
  if (device?.kind !== 'gpu') return environment
  const index = String(device.index)
  // CUDA takes NVIDIA's own uuids, which say which card is meant even when the numbering differs; the others count.
  if (/^(GPU|MIG)-/.test(device.uuid)) environment['CUDA_VISIBLE_DEVICES'] = device.uuid
  return { ...environment, HIP_VISIBLE_DEVICES: index, GGML_VK_VISIBLE_DEVICES: index }
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
