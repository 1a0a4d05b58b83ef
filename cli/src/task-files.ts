import { createHash } from 'node:crypto'
import { access, constants, mkdir, writeFile } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { type TaskFile, TaskFileName } from '@orbyte/protocol'
import { download } from '@orbyte/sdk'
import type { Cli } from './cli.ts'
import { CliError, exitCodes } from './exit-codes.ts'

/** Fetches a file of a task, checks it against its hash, and writes it. */
export async function saveFile(cli: Cli, file: TaskFile, path: string): Promise<void> {
  const bytes = await download(cli.client, file)
  if (createHash('sha256').update(bytes).digest('hex') !== file.sha256)
    throw new CliError(`${file.name} arrived damaged: its SHA-256 is not what the market says. Fetch it again.`)
  await writeFile(path, bytes)
}

/** Into a folder, which is made where there is none; each under its name, with `prefix` before it. */
export async function saveFiles(cli: Cli, folder: string, files: readonly { file: TaskFile; prefix: string }[]) {
  await mkdir(folder, { recursive: true })
  for (const { file, prefix } of files) await saveFile(cli, file, join(folder, prefix + localName(file.name)))
}

/** What a market calls a file, as a name in one folder here: it is no path that leads elsewhere. */
export function localName(name: string): string {
  if (TaskFileName.safeParse(name).success) return name
  throw new CliError(
    `The market calls a file ${JSON.stringify(name)}, which is no name for a file. It was not written.`,
  )
}

/** "out.png" → "out.png", "out-2.png", "out-3.png": where each of several files goes. */
export function numberedPath(path: string, index: number): string {
  if (index === 0) return path
  const extension = extname(path)
  return join(dirname(path), `${basename(path, extension)}-${index + 1}${extension}`)
}

/** Before anything is paid for: whether the result could be written. */
export async function checkWritable(path: string): Promise<void> {
  const folder = dirname(path)
  try {
    await access(folder, constants.W_OK)
  } catch {
    throw new CliError(
      `${folder} is no folder that can be written to. Make it, or give another path with -o.`,
      exitCodes.usage,
    )
  }
}
