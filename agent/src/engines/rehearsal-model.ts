/**
 * A model that recites the alphabet, for rehearsals: small enough to be written anew each time, and right only where all that a
 * llama is made of computes right. Each letter is a direction of its own, and the output matrix sends each to the one after it.
 * What the layer adds is small, and not nothing: what goes wrong in there shows.
 *
 * The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
export function rehearsalModel(): Buffer {
  const tensors = tensorsOf()
  const body: Buffer[] = []
  let offset = 0
  const infos = tensors.map(({ name, shape, values }) => {
    const data = padded(shape.length === 1 ? Buffer.from(values.buffer) : halfFloats(values))
    const info = [
      text(name),
      uint32(shape.length),
      ...shape.map(uint64),
      uint32(shape.length === 1 ? 0 : 1),
      uint64(offset),
    ]
    body.push(data)
    offset += data.length
    return Buffer.concat(info)
  })
  const metadata = metadataOf().map(([key, type, value]) => Buffer.concat([text(key), uint32(type), value]))
  const counts = [Buffer.from('GGUF'), uint32(3), uint64(tensors.length), uint64(metadata.length)]
  return Buffer.concat([padded(Buffer.concat([...counts, ...metadata, ...infos])), ...body])
}

const letters = 'abcdefghijklmnopqrstuvwxyz'

/** What the model says after its prompt, a letter a token. */
export const rehearsalPrompt = 'a'
export function recited(lettersCount: number): string {
  return letters.repeat(Math.ceil(lettersCount / letters.length) + 1).slice(1, lettersCount + 1)
}

/** llama.cpp looks for all bytes as soon as it meets a character that it does not know. */
const byteTokens = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
const tokens = ['<unk>', '<s>', '</s>', ...byteTokens, ...letters]
const firstLetter = tokens.length - letters.length
/** One head of 64 numbers: the smallest that the GPUs' kernels for attention are made for. */
const width = 64
const contextTokens = 512
/** The kinds of token of a vocabulary: unknown, control, byte, ordinary. */
const tokenTypes = [2, 3, 3, ...byteTokens.map(() => 6), ...[...letters].map(() => 1)]
const small = 0.01

type Tensor = { readonly name: string; readonly shape: readonly number[]; readonly values: Float32Array }

function tensorsOf(): Tensor[] {
  const ones = (name: string): Tensor => ({ name, shape: [width], values: new Float32Array(width).fill(1) })
  const square = (name: string): Tensor => matrix(name, width, (row) => [[row, small]])
  const before = (token: number) => (token === firstLetter ? tokens.length - 1 : token - 1)
  // All that are no letters share one.
  const direction = (token: number) => Math.max(0, token - firstLetter + 1)
  return [
    matrix('token_embd.weight', tokens.length, (token) => [[direction(token), 1]]),
    matrix('output.weight', tokens.length, (token) => (token < firstLetter ? [] : [[direction(before(token)), 1]])),
    ones('output_norm.weight'),
    ones('blk.0.attn_norm.weight'),
    ones('blk.0.ffn_norm.weight'),
    ...['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'].map((name) =>
      square(`blk.0.${name}.weight`),
    ),
  ]
}

function matrix(name: string, rows: number, entriesOf: (row: number) => [column: number, value: number][]): Tensor {
  const values = new Float32Array(rows * width)
  for (let row = 0; row < rows; row++)
    for (const [column, value] of entriesOf(row)) values[row * width + column] = value
  return { name, shape: [width, rows], values }
}

/** Numbers of the format's types of values. */
const types = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 }

function metadataOf(): [key: string, type: number, value: Buffer][] {
  const count = (key: string, value: number): [string, number, Buffer] => [key, types.uint32, uint32(value)]
  const list = (type: number, values: readonly Buffer[]) =>
    Buffer.concat([uint32(type), uint64(values.length), ...values])
  return [
    ['general.architecture', types.string, text('llama')],
    ['general.name', types.string, text('Rehearsal')],
    count('general.file_type', 1),
    count('llama.context_length', contextTokens),
    count('llama.embedding_length', width),
    count('llama.block_count', 1),
    count('llama.feed_forward_length', width),
    count('llama.attention.head_count', 1),
    count('llama.attention.head_count_kv', 1),
    count('llama.rope.dimension_count', width),
    count('llama.vocab_size', tokens.length),
    ['llama.attention.layer_norm_rms_epsilon', types.float32, float32(1e-5)],
    ['tokenizer.ggml.model', types.string, text('llama')],
    ['tokenizer.ggml.tokens', types.array, list(types.string, tokens.map(text))],
    [
      'tokenizer.ggml.scores',
      types.array,
      list(
        types.float32,
        tokens.map(() => float32(0)),
      ),
    ],
    ['tokenizer.ggml.token_type', types.array, list(types.int32, tokenTypes.map(uint32))],
    count('tokenizer.ggml.unknown_token_id', 0),
    count('tokenizer.ggml.bos_token_id', 1),
    count('tokenizer.ggml.eos_token_id', 2),
    ['tokenizer.ggml.add_bos_token', types.bool, Buffer.from([1])],
    ['tokenizer.ggml.add_space_prefix', types.bool, Buffer.from([0])],
  ]
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function float32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint64(bytes.length), bytes])
}

/** IEEE half precision of what is in here: 0, 1 and 0.01. */
function halfFloats(values: Float32Array): Buffer {
  const bytes = Buffer.alloc(values.length * 2)
  values.forEach((value, at) => bytes.writeUInt16LE(value === 0 ? 0 : value === 1 ? 0x3c00 : 0x211f, at * 2))
  return bytes
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((32 - (data.length % 32)) % 32)])
}
