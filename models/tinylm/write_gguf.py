"""Writes a trained model as GGUF version 3, by hand. Usage: write_gguf.py RUN_FOLDER OUTPUT [f32|f16|q8_0]

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch

# Types of metadata values
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
SCALAR_FORMATS = {UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}
# The number of a file type in the metadata, and of a tensor type
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}
F32, F16, Q8_0 = 0, 1, 8
ALIGNMENT = 32
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'Q: ' + m['content'] + '\nA:' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + '\n' }}{% endif %}{% endfor %}"
)


def encode_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def encode_value(kind, value):
    if kind == STRING:
        return encode_string(value)
    if kind == ARRAY:
        element_kind, elements = value
        header = struct.pack("<IQ", element_kind, len(elements))
        return header + b"".join(encode_value(element_kind, element) for element in elements)
    return struct.pack(SCALAR_FORMATS[kind], value)


def make_metadata(settings, vocabulary, file_type):
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "TinyLM demo"),
        (
            "general.description",
            STRING,
            "From-scratch demo model: Austen + KJV (public domain) + generated stories and Q/A",
        ),
        ("general.license", STRING, "cc0-1.0"),
        ("general.file_type", UINT32, FILE_TYPES[file_type]),
        ("general.quantization_version", UINT32, 2),
        ("llama.context_length", UINT32, settings["ctx"]),
        ("llama.embedding_length", UINT32, settings["dim"]),
        ("llama.block_count", UINT32, settings["layers"]),
        ("llama.feed_forward_length", UINT32, settings["ffn"]),
        ("llama.attention.head_count", UINT32, settings["heads"]),
        ("llama.attention.head_count_kv", UINT32, settings["kv"]),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT32, settings["eps"]),
        ("llama.rope.dimension_count", UINT32, settings["dim"] // settings["heads"]),
        ("llama.rope.freq_base", FLOAT32, settings["theta"]),
        ("llama.vocab_size", UINT32, settings["vocab"]),
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.pre", STRING, "default"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, vocabulary["tokens"])),
        ("tokenizer.ggml.scores", ARRAY, (FLOAT32, vocabulary["scores"])),
        ("tokenizer.ggml.token_type", ARRAY, (INT32, vocabulary["types"])),
        ("tokenizer.ggml.bos_token_id", UINT32, 1),
        ("tokenizer.ggml.eos_token_id", UINT32, 2),
        ("tokenizer.ggml.unknown_token_id", UINT32, 0),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.ggml.add_eos_token", BOOL, False),
        ("tokenizer.ggml.add_space_prefix", BOOL, True),
        ("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]


def quantize_q8_0(values):
    """Blocks of 32 numbers: a half-precision scale, then 8-bit numbers."""
    blocks = values.reshape(-1, 32)
    scales = np.abs(blocks).max(1) / 127.0
    inverse = np.where(scales > 0, 1 / np.where(scales > 0, scales, 1), 0)
    packed = np.zeros(len(blocks), dtype=[("scale", "<f2"), ("numbers", "i1", 32)])
    packed["scale"] = scales
    packed["numbers"] = np.rint(blocks * inverse[:, None]).astype(np.int8)
    return packed.tobytes()


def encode_tensor(values, file_type):
    """The tensor's type and its bytes. Vectors stay in full precision."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if values.ndim == 1 or file_type == "f32":
        return F32, values.astype("<f4").tobytes()
    if file_type == "f16":
        return F16, values.astype("<f2").tobytes()
    return Q8_0, quantize_q8_0(values)


def make_tensors(settings, weights):
    """Names as llama.cpp has them. There is no output.weight: it is the embedding."""
    tensors = [("token_embd.weight", weights["embedding.weight"])]
    for layer in range(settings["layers"]):
        source, target = f"blocks.{layer}.", f"blk.{layer}."
        query, key, value = np.split(weights[source + "query_key_value.weight"], 3, 0)
        gate, up = np.split(weights[source + "gate_up.weight"], 2, 0)
        tensors += [
            (target + "attn_norm.weight", weights[source + "attention_norm.weight"]),
            (target + "attn_q.weight", query),
            (target + "attn_k.weight", key),
            (target + "attn_v.weight", value),
            (target + "attn_output.weight", weights[source + "attention_output.weight"]),
            (target + "ffn_norm.weight", weights[source + "ffn_norm.weight"]),
            (target + "ffn_gate.weight", gate),
            (target + "ffn_up.weight", up),
            (target + "ffn_down.weight", weights[source + "down.weight"]),
        ]
    return tensors + [("output_norm.weight", weights["norm.weight"])]


def pad(data):
    return data + b"\0" * (-len(data) % ALIGNMENT)


def encode_model(settings, weights, vocabulary, file_type):
    metadata = make_metadata(settings, vocabulary, file_type)
    tensors = make_tensors(settings, weights)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, kind, value in metadata:
        header += encode_string(key) + struct.pack("<I", kind) + encode_value(kind, value)
    body = b""
    for name, values in tensors:
        kind, data = encode_tensor(values, file_type)
        shape = values.shape[::-1]
        header += encode_string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        header += struct.pack("<IQ", kind, len(body))
        body += pad(data)
    return pad(header) + body


def main(folder, output, file_type="f16"):
    checkpoint = torch.load(Path(folder) / "model.pt", map_location="cpu")
    weights = {name: tensor.float().numpy() for name, tensor in checkpoint["weights"].items()}
    vocabulary = json.loads(Path("corpus/vocab.json").read_text())
    content = encode_model(checkpoint["settings"], weights, vocabulary, file_type)
    Path(output).write_bytes(content)
    print(output, len(content), "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
