import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/*
 * Makes sure that there is a Chromium for the tests in a browser: installs Debian's where this is Debian and we may. Elsewhere
 * it says what is missing, and those tests are skipped.
 */
const places = [process.env.CHROMIUM_PATH, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const isThere = places.some((path) => path && existsSync(path))
const mayInstall = process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')

if (!isThere && mayInstall) {
  console.error('Installing Chromium (apt-get install chromium) …')
  const options = { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } }
  execFileSync('apt-get', ['update', '-qq'], options)
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium'], options)
} else if (!isThere)
  console.error('There is no Chromium here, so the tests in a browser are skipped. Install it, or set CHROMIUM_PATH.')
