"""Builds corpus/docs.txt, what TinyLM is trained on: Debian's public-domain texts and our own generator's.

Needs the Debian packages bible-kjv and bible-kjv-text, and the R data of r-cran-janeaustenr (see README.md).
Documents are separated by the ASCII record separator.
"""

import random
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import stories

SEPARATOR = "\x1e"
AUSTEN_DATA = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
ASCII_FOR = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2014": "--",
    "\u2013": "-",
    "\xe9": "e",
    "\xe8": "e",
    "\xea": "e",
    "\xe0": "a",
    "\xa3": "L",
    "\xef": "i",
    "\xe7": "c",
}


def to_ascii(text):
    for character, replacement in ASCII_FOR.items():
        text = text.replace(character, replacement)
    return text.encode("ascii", "ignore").decode()


def read_r_strings(data):
    """The lines of one object of an R lazy-load database: a vector of CHARSXP, each with flags and a length."""
    char_type = 9
    lines = []
    at = data.find(b"\x00\x04\x00\x09")
    while at >= 0 and at + 8 <= len(data):
        flags, length = struct.unpack(">II", data[at : at + 8])
        if flags & 0xFF != char_type:
            break
        lines.append(data[at + 8 : at + 8 + length].decode("utf8", "replace"))
        at += 8 + length
    return lines


def read_austen(database):
    """The novels in janeaustenr's database: zlib streams, each after four bytes of length."""
    content = database.read_bytes()
    at = 0
    while at < len(content):
        stream = zlib.decompressobj()
        data = stream.decompress(content[at + 4 :])
        at = len(content) - len(stream.unused_data)
        yield "\n".join(read_r_strings(data))


def make_austen_documents(database):
    """Paragraphs in documents of a little more than 900 characters; what is left at a novel's end is dropped."""
    documents = []
    for novel in read_austen(database):
        text = to_ascii(novel).replace("_", "")
        paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
        document = ""
        for paragraph in paragraphs:
            if len(paragraph) <= 60 or re.match(r"(CHAPTER|VOLUME|Chapter)\b", paragraph):
                continue
            document += ("\n" if document else "") + paragraph
            if len(document) > 900:
                documents.append(document)
                document = ""
    return documents


def make_bible_documents():
    """Verses of the King James Bible in documents of a little more than 700 characters."""
    printed = subprocess.run(
        ["bible", "-f", "-l", "200"], input="gen1:1-rev22:21\n", text=True, capture_output=True, check=True
    ).stdout
    documents = []
    document = ""
    for line in printed.splitlines():
        verse = re.match(r"^(?:\S+\d*:?\d+:\d+|\w+\d+:\d+)\s+(.*)$", line.strip())
        if not verse:
            continue
        document += (" " if document else "") + re.sub(r"[\[\]<>()]", "", to_ascii(verse.group(1)))
        if len(document) > 700:
            documents.append(document)
            document = ""
    return documents


def count_characters(documents):
    return sum(map(len, documents))


def main(austen_folder):
    austen = make_austen_documents(Path(austen_folder) / AUSTEN_DATA)
    bible = make_bible_documents()
    rng = random.Random(7)
    tales = [stories.make_story(rng) for _ in range(9000)]
    conversations = stories.make_conversations(rng, 4500)
    # Half of the Bible, so that its style does not outweigh the rest.
    documents = austen + bible[::2] + tales + conversations
    rng.shuffle(documents)
    Path("corpus").mkdir(exist_ok=True)
    Path("corpus/docs.txt").write_text(SEPARATOR.join(documents))
    for name, part in [
        ("Austen", austen),
        ("Bible", bible),
        ("stories", tales),
        ("conversations", conversations),
    ]:
        print(f"{name}: {len(part)} documents, {count_characters(part)} characters")
    print(f"corpus/docs.txt: {len(documents)} documents, {count_characters(documents)} characters")


if __name__ == "__main__":
    main(sys.argv[1])
