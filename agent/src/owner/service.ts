export type ServiceOptions = {
  readonly platform: string
  /** The program and its first arguments: how this agent was started. */
  readonly command: readonly string[]
  /** Flags of the agent, without the token: that is enrolled once, by hand, or comes from a file. */
  readonly flags: readonly string[]
  readonly dataPath: string
  /** How long the service manager has to wait for a drain, in seconds. */
  readonly stopSecondsMax: number
}

export type ServiceFile = { readonly path: string; readonly text: string; readonly steps: readonly string[] }

/** What starts the agent at boot, to be put where the system looks for it. Null: no such system is known. */
export function serviceFile(options: ServiceOptions): ServiceFile | null {
  if (options.platform === 'linux') return systemdUnit(options)
  if (options.platform === 'darwin') return launchdPlist(options)
  return null
}

function systemdUnit({ command, flags, dataPath, stopSecondsMax }: ServiceOptions): ServiceFile {
  const path = '~/.config/systemd/user/orbyte-agent.service'
  const text = `[Unit]
Description=Orbyte agent: offers this machine's GPUs
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=${[...command, ...flags].map(systemdWord).join(' ')}
WorkingDirectory=${dataPath.replace(/%/g, '%%')}
Restart=on-failure
RestartSec=5
# The agent signals its engines itself: they go on while it drains.
KillMode=mixed
TimeoutStopSec=${stopSecondsMax}
# A refused agent stays stopped.
RestartPreventExitStatus=2 3

[Install]
WantedBy=default.target
`
  const steps = [
    `Save this as ${path}`,
    'systemctl --user daemon-reload && systemctl --user enable --now orbyte-agent',
    'loginctl enable-linger $USER   # so that it runs while nobody is logged in',
  ]
  return { path, text, steps }
}

function launchdPlist({ command, flags, dataPath, stopSecondsMax }: ServiceOptions): ServiceFile {
  const path = '~/Library/LaunchAgents/computer.orbyte.agent.plist'
  const words = [...command, ...flags].map((word) => `    <string>${xmlText(word)}</string>`)
  const text = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>computer.orbyte.agent</string>
  <key>ProgramArguments</key>
  <array>
${words.join('\n')}
  </array>
  <key>WorkingDirectory</key><string>${xmlText(dataPath)}</string>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>Crashed</key><true/></dict>
  <key>ExitTimeOut</key><integer>${stopSecondsMax}</integer>
  <key>StandardErrorPath</key><string>${xmlText(`${dataPath}/agent.log`)}</string>
</dict>
</plist>
`
  return { path, text, steps: [`Save this as ${path}`, `launchctl load -w ${path}`] }
}

/** A word of ExecStart: quoted, and with what systemd would replace made harmless. */
function systemdWord(word: string): string {
  const plain = word.replace(/%/g, '%%').replace(/\$/g, '$$$$')
  return /^[\w@:,./=%+-]+$/.test(plain) ? plain : `"${plain.replace(/["\\]/g, '\\$&')}"`
}

function xmlText(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' }
  return text.replace(/[&<>]/g, (character) => entities[character]!)
}
