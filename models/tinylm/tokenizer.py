"""Learns TinyLM's vocabulary and encodes the corpus with it.

The vocabulary is byte-pair encoding in the form that llama.cpp calls "llama" (SentencePiece): three special tokens, 256
byte tokens, merges with a score of minus their rank, then single characters. Usage: tokenizer.py [VOCABULARY_SIZE]
"""

import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

SPACE = "\u2581"
CHUNK = re.compile(f"{SPACE}?[A-Za-z]+|{SPACE}?[0-9]|{SPACE}?[^\\sA-Za-z0-9{SPACE}]+|{SPACE}|\\n")
BEGINNING, END = 1, 2
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
# llama.cpp's token types
UNKNOWN, CONTROL, BYTE, NORMAL = 2, 3, 6, 1


def split_into_chunks(text):
    """Words, digits, runs of punctuation and line ends, each with the space before it. Merges stay inside of one."""
    return CHUNK.findall(SPACE + text.replace(" ", SPACE))


def replace_pair(symbols, pair):
    merged = []
    at = 0
    while at < len(symbols):
        if at + 1 < len(symbols) and symbols[at] == pair[0] and symbols[at + 1] == pair[1]:
            merged.append(pair[0] + pair[1])
            at += 2
        else:
            merged.append(symbols[at])
            at += 1
    return merged


def learn_vocabulary(documents, size):
    """Returns tokens, scores and types, merging the most frequent pair of neighbours until there are enough."""
    chunk_counts = Counter()
    for document in documents:
        chunk_counts.update(split_into_chunks(document))
    characters = sorted({character for chunk in chunk_counts for character in chunk if character != "\n"})
    words = [[list(chunk), count] for chunk, count in chunk_counts.items() if chunk != "\n"]
    pair_counts = Counter()
    words_with = defaultdict(set)
    for index, (symbols, count) in enumerate(words):
        for pair in zip(symbols, symbols[1:]):
            pair_counts[pair] += count
            words_with[pair].add(index)

    base = SPECIAL_TOKENS + BYTE_TOKENS
    merges = []
    known = set(characters)
    while len(base) + len(characters) + len(merges) < size:
        best = max(pair_counts, key=lambda pair: (pair_counts[pair], pair))
        token = best[0] + best[1]
        if token not in known:
            merges.append(token)
            known.add(token)
        for index in list(words_with[best]):
            symbols, count = words[index]
            for pair in zip(symbols, symbols[1:]):
                pair_counts[pair] -= count
            words[index][0] = replace_pair(symbols, best)
            for pair in zip(words[index][0], words[index][0][1:]):
                pair_counts[pair] += count
                words_with[pair].add(index)
        pair_counts.pop(best, None)

    scores = [0.0] * len(base) + [-float(rank) for rank in range(len(merges))]
    scores += [-1e4 - rank for rank in range(len(characters))]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (len(merges) + len(characters))
    return base + merges + characters, scores, types


class Encoder:
    """Encodes as llama.cpp does: of all neighbours, those with the best score are merged first."""

    def __init__(self, tokens, scores):
        self.ids = {token: index for index, token in enumerate(tokens)}
        self.scores = {token: scores[index] for index, token in enumerate(tokens)}
        for token in SPECIAL_TOKENS + BYTE_TOKENS:
            self.scores.pop(token)
        self.known_chunks = {}

    def encode(self, text):
        return [token for chunk in split_into_chunks(text) for token in self.encode_chunk(chunk)]

    def encode_chunk(self, chunk):
        if chunk not in self.known_chunks:
            self.known_chunks[chunk] = self.merge_chunk(chunk)
        return self.known_chunks[chunk]

    def merge_chunk(self, chunk):
        if chunk == "\n":
            return [self.ids["<0x0A>"]]
        parts = list(chunk)
        while True:
            best = None
            for at in range(len(parts) - 1):
                score = self.scores.get(parts[at] + parts[at + 1])
                if score is not None and (best is None or score > best[0]):
                    best = (score, at)
            if best is None:
                break
            at = best[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids = []
        for part in parts:
            ids += (
                [self.ids[part]]
                if part in self.ids
                else [self.ids[f"<0x{byte:02X}>"] for byte in part.encode()]
            )
        return ids


def pack(encoder, documents):
    ids = [token for document in documents for token in [BEGINNING, *encoder.encode(document), END]]
    return np.array(ids, dtype=np.uint16)


def main(size):
    documents = Path("corpus/docs.txt").read_text().split("\x1e")
    tokens, scores, types = learn_vocabulary(documents, size)
    Path("corpus/vocab.json").write_text(json.dumps({"tokens": tokens, "scores": scores, "types": types}))
    encoder = Encoder(tokens, scores)
    held_out = len(documents) // 50
    pack(encoder, documents[:held_out]).tofile("corpus/val.bin")
    train = pack(encoder, documents[held_out:])
    train.tofile("corpus/train.bin")
    characters = sum(map(len, documents[held_out:]))
    print(f"{len(tokens)} tokens; {len(train)} to train on, {characters / len(train):.2f} characters each")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2048)
