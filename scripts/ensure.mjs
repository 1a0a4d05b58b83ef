import { spawn } from 'node:child_process'
import { npmCommand } from './npm.mjs'
import { isBuilt, isInstalled, repository } from './stamps.mjs'

/*
 * Makes a checkout ready to run, then runs something:
 *
 *   node scripts/ensure.mjs [--build] [ARGUMENTS OF NODE…]
 *
 * installs the dependencies if they are missing or not those of package-lock.json, with --build also builds dist/ if the
 * sources have changed, and hands the rest to `node`. Says nothing when there is nothing to do. It needs Node and npm only.
 */
const nodeNeeded = [20, 19]

const [first, ...others] = process.argv.slice(2)
const build = first === '--build'
const command = build ? others : process.argv.slice(2)

process.chdir(repository)
checkNodeVersion()
if (!isInstalled()) await install()
if (build && !isBuilt()) await buildSources()
if (command.length > 0) end(await run(process.execPath, command))

function checkNodeVersion() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major > nodeNeeded[0] || (major === nodeNeeded[0] && minor >= nodeNeeded[1])) return
  console.error(
    `Orbyte needs Node.js ${nodeNeeded.join('.')} or newer, and this is ${process.versions.node} (${process.execPath}).\n` +
      'Install a newer one from https://nodejs.org or with your version manager, then run the same command again.',
  )
  process.exit(1)
}

async function install() {
  const start = progress('Installing dependencies (npm ci) …')
  // A development build needs the development dependencies, whatever the environment says about production.
  const npm = npmCommand(['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'])
  const ended = await run(npm.file, npm.arguments, npm.options)
  if (ended.code !== 0) fail(ended, 'npm ci failed; its message is above. Mend that and run the same command again.')
  if (!isInstalled()) fail({ code: 1 }, 'npm ci ran, but its last step did not: run `npm ci` by hand to see why.')
  progress(`Installed in ${seconds(start)} s.`)
}

async function buildSources() {
  const start = progress('Building dist/ …')
  const ended = await run(process.execPath, ['--import', 'tsx', 'scripts/build.ts'])
  if (ended.code !== 0) fail(ended, 'The build failed; its message is above.')
  progress(`Built in ${seconds(start)} s.`)
}

/** Resolves with how the child ended. Signals that this process gets are passed on, so that the child can stop in order. */
function run(file, childArguments, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, childArguments, { stdio: 'inherit', ...options })
    // Ctrl-C in a terminal reaches the child by itself; a second one from here would say "stop at once".
    const onInterrupt = () => process.stdin.isTTY || child.kill('SIGINT')
    const onTerminate = () => child.kill('SIGTERM')
    process.on('SIGINT', onInterrupt).on('SIGTERM', onTerminate)
    const orphanWatch = watchForOrphanage(onTerminate)
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      process.off('SIGINT', onInterrupt).off('SIGTERM', onTerminate)
      clearInterval(orphanWatch)
      resolve({ code, signal })
    })
  })
}

/**
 * npm hands a signal to the shell that it started us with, and the shell ends without a word to us. Having lost that
 * parent is how we hear of it.
 */
function watchForOrphanage(onOrphaned) {
  const parent = process.ppid
  if (!process.env.npm_lifecycle_event) return undefined
  const watch = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(watch)
    onOrphaned()
  }, 200)
  return watch
}

function fail(ended, message) {
  if (!ended.signal) console.error(message)
  end({ ...ended, code: ended.code || 1 })
}

/** Ends as the child did: with its exit status, or by the same signal. */
function end({ code, signal }) {
  if (signal) process.kill(process.pid, signal)
  else process.exit(code)
}

/** Goes to stderr: what a command prints on stdout stays its own. */
function progress(line) {
  console.error(line)
  return performance.now()
}

function seconds(start) {
  return ((performance.now() - start) / 1000).toFixed(1)
}
