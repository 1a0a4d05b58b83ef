import { randomBytes } from 'node:crypto'
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const fileName = 'agent.lock'

export type FolderLock = { release(): Promise<void> }

/** Two agents on one data folder would be one identity twice. Rejects while another process has it. */
export async function lockFolder(folder: string): Promise<FolderLock> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const path = join(folder, fileName)
  const own = `${path}.${randomBytes(4).toString('hex')}`
  await writeFile(own, `${process.pid} ${await startOf(process.pid)}\n`, { mode: 0o600 })
  try {
    await takeLock(own, path)
  } finally {
    await rm(own, { force: true })
  }
  return { release: async () => await rm(path, { force: true }) }
}

/** The lock appears with its holder in it, or not at all. */
async function takeLock(own: string, path: string): Promise<void> {
  for (let tries = 0; tries < 3; tries++) {
    try {
      return await link(own, path)
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error
    }
    const holder = await readHolder(path)
    if (holder !== null && (await isAlive(holder))) {
      throw new Error(
        `Another agent (process ${holder.pid}) uses ${dirname(path)}. Stop it, or give this one a folder of its own with --data.`,
      )
    }
    await rm(path, { force: true })
  }
  throw new Error(`${path} cannot be taken: other agents are starting at this moment.`)
}

type Holder = { readonly pid: number; readonly startedAt: string }

async function readHolder(path: string): Promise<Holder | null> {
  const text = await readFile(path, 'utf8').catch(() => '')
  const [, pid, startedAt] = /^(\d+) (\S*)/.exec(text) ?? []
  return pid === undefined ? null : { pid: Number(pid), startedAt: startedAt ?? '' }
}

/** The same number may be another process's by now, most of all in a container or after a reboot. */
async function isAlive({ pid, startedAt }: Holder): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (isCode(error, 'ESRCH')) return false
  }
  return startedAt === (await startOf(pid))
}

/** When a process started, in the system's own words; "" where the system does not say. */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')
  // The program's name stands in parentheses and may hold anything; the 22nd field is the 20th after it.
  const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  return ticks === '' ? '' : `${boot.trim()}/${ticks}`
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
