import type { SourceFile } from './source-file.ts'

/** One sentence of the project's style that a machine can hold. */
export type Rule = {
  readonly name: string
  /** What is wrong where `find` finds something, and what to do about it. */
  readonly says: string
  appliesTo(path: string): boolean
  /** Where the file breaks the rule. `detail` names the offender. */
  find(file: SourceFile, tree: Tree): readonly Offence[]
}

export type Offence = { readonly line: number; readonly detail: string }

/** All paths of the repository. */
export type Tree = ReadonlySet<string>
