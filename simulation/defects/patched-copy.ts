import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Defect } from './defects.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const workspaces = ['protocol', 'server', 'agent']

/** A copy of the product and the simulation in a folder of its own, with the defect in it. */
export function makePatchedCopy({ name, changes }: Defect): { folder: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'orbyte-defect-'))
  for (const part of [...workspaces, 'simulation'])
    cpSync(join(repository, part), join(folder, part), {
      recursive: true,
      filter: (path) => !/(node_modules|\.test\.ts)$/.test(path),
    })
  cpSync(join(repository, 'package.json'), join(folder, 'package.json'))
  cpSync(join(repository, 'tsconfig.json'), join(folder, 'tsconfig.json'))
  linkPackages(folder)
  for (const { file, replace, by } of changes) {
    const path = join(folder, file)
    const text = readFileSync(path, 'utf8')
    if (text.split(replace).length !== 2)
      throw new Error(`"${name}" does not apply to ${file}: the text is not there once`)
    writeFileSync(
      path,
      text.replace(replace, () => by),
    )
  }
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

/** The packages are those of the repository; our own are the copies. */
function linkPackages(folder: string) {
  const modules = join(folder, 'node_modules')
  mkdirSync(join(modules, '@orbyte'), { recursive: true })
  for (const entry of readdirSync(join(repository, 'node_modules')))
    if (entry !== '@orbyte') symlinkSync(join(repository, 'node_modules', entry), join(modules, entry))
  for (const part of workspaces) symlinkSync(join(folder, part), join(modules, '@orbyte', part))
}
