import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { AttemptError } from '../executors/executor.ts'

/** Imports a native library: from this machine's engines folder if it is there, else from beside the agent's own code. */
export async function importEngineLibrary<Library>(name: string, enginesFolder: string | null): Promise<Library> {
  try {
    const module = (await import(libraryLocation(name, enginesFolder))) as Library & { default?: Library }
    // A CommonJS library has everything under `default`, and not always elsewhere.
    return name === 'onnxruntime-node' ? (module.default ?? module) : module
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error)
    throw new AttemptError('engine_unavailable', `${name} cannot be loaded: ${why}`, 'provider')
  }
}

function libraryLocation(name: string, enginesFolder: string | null): string {
  if (enginesFolder === null || !existsSync(join(enginesFolder, 'node_modules', name))) return name
  const resolve = createRequire(join(enginesFolder, 'package.json')).resolve
  return pathToFileURL(resolve(name)).href
}
