import { execFileSync } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { repository, stampInstalled } from './stamps.mjs'

/*
 * Runs after `npm ci` and `npm install`. onnxruntime-node ships the binaries of five platforms; those that this machine
 * cannot load are 240 MB. It never fails an install: what cannot be removed stays.
 */
try {
  removeForeignBinaries(join(repository, 'node_modules/onnxruntime-node/bin'))
} catch (error) {
  console.error(`Binaries for other platforms stay where they are: ${error.message}`)
}
try {
  // What the linter and the type checker know of the web app's routes.
  execFileSync(process.execPath, [join(repository, 'node_modules/@sveltejs/kit/svelte-kit.js'), 'sync'], {
    cwd: join(repository, 'web'),
    stdio: 'ignore',
  })
} catch (error) {
  console.error(`The types of the web app's routes are made later: ${error.message}`)
}
try {
  stampInstalled()
} catch (error) {
  console.error(`The next command will install once more: ${error.message}`)
}

/** The layout is bin/napi-vN/<platform>/<arch>. */
function removeForeignBinaries(folder) {
  for (const abi of foldersIn(folder)) {
    for (const platform of foldersIn(join(folder, abi))) {
      const platformFolder = join(folder, abi, platform)
      if (platform !== process.platform) rmSync(platformFolder, { recursive: true, force: true })
      else
        for (const arch of foldersIn(platformFolder))
          if (arch !== process.arch) rmSync(join(platformFolder, arch), { recursive: true, force: true })
    }
  }
}

function foldersIn(folder) {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
  } catch (error) {
    if (error.code === 'ENOENT') return []
    throw error
  }
}
