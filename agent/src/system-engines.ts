import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Environment } from './agent-config.ts'
import { detectMachine, installEngines } from './engines/engines-install.ts'
import { engineVersions } from './engines/engine-packages.ts'
import type { Log } from './outside.ts'
import { enginesFolder } from './system-outside.ts'

export type EngineInstallOptions = {
  readonly dataPath: string
  readonly environment: Environment
  readonly log: Log
  readonly signal: AbortSignal
}

/** Installs the engines that fit this machine into the data folder. Rejects with what went wrong. */
export async function installSystemEngines({
  dataPath,
  environment,
  log,
  signal,
}: EngineInstallOptions): Promise<void> {
  const machine = await detectMachine({ platform: process.platform, arch: process.arch }, environment)
  const onProgress = (line: string) => log.info(line)
  await installEngines({ enginesFolder: enginesFolder(dataPath), machine, environment, signal, onProgress })
}

/** In a checkout the engines lie beside the agent's code already. */
export function hasOwnEngines(): boolean {
  const require = createRequire(import.meta.url)
  return Object.keys(engineVersions).every((name) =>
    (require.resolve.paths(name) ?? []).some((folder) => existsSync(join(folder, name))),
  )
}

/** An agent without engines still works: with the owner's own server, and with what needs none. */
export async function installMissingEngines(options: EngineInstallOptions): Promise<void> {
  if (hasOwnEngines()) return
  try {
    await installSystemEngines(options)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    options.log.warn(`The engines are not installed: ${why} Try again with: orbyte agent engines`)
  }
}
