import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { tarEnd, tarHeader, tarPadding, untar } from './tar.ts'

type File = { name: string; bytes: Buffer }

const archiveOf = (files: readonly File[]) =>
  Buffer.concat([
    ...files.flatMap(({ name, bytes }) => [
      tarHeader({ name, sizeBytes: bytes.length, modifiedAtMs: 1_700_000_000_000 }),
      bytes,
      tarPadding(bytes.length),
    ]),
    tarEnd,
  ])

async function* inPieces(bytes: Buffer, sizes: readonly number[]) {
  for (let offset = 0, index = 0; offset < bytes.length; index++) {
    const size = sizes[index % sizes.length]!
    yield bytes.subarray(offset, offset + size)
    offset += size
  }
}

async function filesOf(chunks: AsyncIterable<Uint8Array>): Promise<File[]> {
  const files: File[] = []
  for await (const { name, body } of untar(chunks)) {
    const parts: Buffer[] = []
    for await (const part of body) parts.push(Buffer.from(part))
    files.push({ name, bytes: Buffer.concat(parts) })
  }
  return files
}

const anyFile = fc.record({
  name: fc.stringMatching(/^[a-z0-9./]{1,100}$/),
  bytes: fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
})

test('what is packed comes out again, however it arrives', async () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 1_500 }), { minLength: 1, maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(fc.array(anyFile, { maxLength: 5 }), sizes, async (files, pieces) => {
      expect(await filesOf(inPieces(archiveOf(files), pieces))).toEqual(files)
    }),
  )
})

test('an archive that breaks off anywhere is an error, and so is something else', async () => {
  const whole = archiveOf([{ name: 'orbyte.db', bytes: Buffer.alloc(700, 1) }])
  for (const length of [0, 100, 512, 513, 1_000, 1_211, 1_212, 1_500, 1_536])
    await expect(filesOf(inPieces(whole.subarray(0, length), [300]))).rejects.toThrow('breaks off')
  await expect(filesOf(inPieces(Buffer.from('{"code":"nothing like it"}'.repeat(50)), [300]))).rejects.toThrow(
    'no archive',
  )
})

test('a body that nobody reads is passed over', async () => {
  const names: string[] = []
  const files = ['first', 'second'].map((name) => ({ name, bytes: Buffer.alloc(1_300, name) }))
  for await (const { name } of untar(inPieces(archiveOf(files), [100]))) names.push(name)
  expect(names).toEqual(['first', 'second'])
})

test('whoever sends an archive sees it taken to its end, or given up', async () => {
  const ended: string[] = []
  const sent = async function* (bytes: Buffer) {
    try {
      yield* inPieces(bytes, [512])
      ended.push('taken')
    } finally {
      ended.push('left')
    }
  }
  await filesOf(sent(archiveOf([{ name: 'orbyte.db', bytes: Buffer.alloc(600) }])))
  await expect(filesOf(sent(Buffer.alloc(2_048, 'nonsense')))).rejects.toThrow('no archive')
  expect(ended).toEqual(['taken', 'left', 'left'])
})

test('a size beyond 8 GB is kept', async () => {
  const sizeBytes = 20_000_000_000
  const header = tarHeader({ name: 'orbyte.db', sizeBytes, modifiedAtMs: 0 })
  const files = untar(inPieces(header, [512]))
  expect((await files.next()).value).toMatchObject({ name: 'orbyte.db', sizeBytes })
})

test('any tar can read it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'orbyte-tar-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const bytes = Buffer.from('a database')
  writeFileSync(join(folder, 'backup.tar'), archiveOf([{ name: 'orbyte.db', bytes }]))
  execFileSync('tar', ['xf', 'backup.tar'], { cwd: folder })
  expect(readFileSync(join(folder, 'orbyte.db'))).toEqual(bytes)
})
