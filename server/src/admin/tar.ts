/**
 * The little of the tar format (POSIX ustar) that a backup needs: files with short names, of any size. What is written here, any
 * `tar` reads; what is read here was written here.
 */
export type TarFile = { readonly name: string; readonly sizeBytes: number; readonly body: AsyncIterable<Buffer> }

const blockBytes = 512
const nameBytesMax = 100
/** Eleven octal digits. Larger sizes are binary, with the first bit set, as GNU and BSD tar write them. */
const octalSizeMax = 8 ** 11 - 1

export function tarHeader(file: { name: string; sizeBytes: number; modifiedAtMs: number }): Buffer {
  if (Buffer.byteLength(file.name) > nameBytesMax) throw new RangeError(`${file.name} is too long for a tar file`)
  const header = Buffer.alloc(blockBytes)
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`
  header.write(file.name, 0)
  header.write(octal(0o600, 7), 100)
  header.write(octal(0, 7), 108)
  header.write(octal(0, 7), 116)
  if (file.sizeBytes <= octalSizeMax) header.write(octal(file.sizeBytes, 11), 124)
  else {
    header[124] = 0x80
    header.writeBigUInt64BE(BigInt(file.sizeBytes), 128)
  }
  header.write(octal(Math.floor(file.modifiedAtMs / 1_000), 11), 136)
  header.write('0', 156)
  header.write('ustar\x0000', 257)
  header.write(`${checksum(header).toString(8).padStart(6, '0')}\0 `, 148)
  return header
}

/** What follows a file's bytes, up to the next whole block. */
export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((blockBytes - (sizeBytes % blockBytes)) % blockBytes)
}

export const tarEnd: Buffer = Buffer.alloc(2 * blockBytes)

/**
 * The files of an archive, in order. Each body is to be read before the next file is asked for; what was not read is passed over.
 * Throws where the archive breaks off or is none.
 */
export async function* untar(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<TarFile, void, undefined> {
  const source = chunks[Symbol.asyncIterator]()
  const input = createInput(source)
  try {
    for (;;) {
      const header = await input.take(blockBytes)
      if (header.every((byte) => byte === 0)) break
      const name = header.subarray(0, nameBytesMax).toString().replace(/\0.*$/s, '')
      const written = Number.parseInt(header.subarray(148, 156).toString(), 8)
      if (written !== checksum(header) || header[156] !== 0x30) throw new Error('this is no archive of a backup')
      const sizeBytes = sizeOf(header)
      const body = input.upTo(sizeBytes)
      yield { name, sizeBytes, body }
      for await (const _rest of body);
      await input.take(tarPadding(sizeBytes).length)
    }
    // To the end, so that whoever sends it sees it taken.
    while ((await source.next()).done !== true);
  } finally {
    await source.return?.()
  }
}

function sizeOf(header: Buffer): number {
  if (header[124] === 0x80) return Number(header.readBigUInt64BE(128))
  return Number.parseInt(header.subarray(124, 135).toString(), 8)
}

/** The sum of all bytes, with spaces where it stands itself. */
function checksum(header: Buffer): number {
  return header.reduce((sum, byte, index) => sum + (index >= 148 && index < 156 ? 0x20 : byte), 0)
}

function createInput(source: AsyncIterator<Uint8Array>) {
  let rest: Buffer = Buffer.alloc(0)

  /** At least one byte, at most `bytesMax`. */
  async function next(bytesMax: number): Promise<Buffer> {
    while (rest.length === 0) {
      const { value, done } = await source.next()
      if (done === true) throw new Error('the archive breaks off')
      rest = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    }
    const part = rest.subarray(0, bytesMax)
    rest = rest.subarray(part.length)
    return part
  }

  async function* upTo(sizeBytes: number): AsyncGenerator<Buffer, void, undefined> {
    for (let left = sizeBytes; left > 0;) {
      const part = await next(left)
      left -= part.length
      yield part
    }
  }

  return {
    upTo,
    async take(sizeBytes: number): Promise<Buffer> {
      const parts: Buffer[] = []
      for await (const part of upTo(sizeBytes)) parts.push(part)
      return Buffer.concat(parts)
    },
  }
}
