import { expect, test } from 'vitest'
import { serviceFile } from './service.ts'

const options = {
  command: ['/usr/bin/node', '/opt/orbyte/orbyte.js', 'agent'],
  flags: ['start', '--name', 'Bob & Sons 100% "best"', '--data', '/home/bob/.orbyte/agent'],
  dataPath: '/home/bob/.orbyte/agent',
  stopSecondsMax: 630,
}

test('systemd starts the agent at boot, waits for its drain, and leaves a refused one alone', () => {
  const unit = serviceFile({ ...options, platform: 'linux' })
  expect(unit?.text).toContain(
    'ExecStart=/usr/bin/node /opt/orbyte/orbyte.js agent start --name "Bob & Sons 100%% \\"best\\"" --data /home/bob/.orbyte/agent\n',
  )
  expect(unit?.text).toContain('TimeoutStopSec=630')
  expect(unit?.text).toContain('RestartPreventExitStatus=2 3')
})

test('launchd gets the same in its own words', () => {
  const plist = serviceFile({ ...options, platform: 'darwin' })
  expect(plist?.text).toContain('<string>Bob &amp; Sons 100% "best"</string>')
  expect(plist?.text).toContain('<key>RunAtLoad</key><true/>')
})

test('another system has no such file', () => {
  expect(serviceFile({ ...options, platform: 'win32' })).toBeNull()
})
