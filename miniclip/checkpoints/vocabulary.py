"""A tokenizer read from its files: CLIP's own vocabulary file, or those of Hugging Face."""

import gzip
import json
import os
import zlib
from pathlib import Path

from ..tokenizer import CLIP_MERGES, Tokenizer

LARGEST_FILE = 1 << 23  # bytes once unpacked; CLIP's has 3.2 million


def read_tokenizer(path):
    """Read CLIP's vocabulary file, or a Hugging Face folder.

    path: bpe_simple_vocab_16e6.txt.gz, the same unpacked, any merges.txt, or a folder that holds
    merges.txt and vocab.json, or tokenizer.json. FileNotFoundError, or ValueError naming the file.
    """
    path = file = Path(path)
    try:
        if not path.is_dir():
            return Tokenizer(read_merges(path))
        if (path / "merges.txt").exists():
            tokenizer = Tokenizer(read_merges(file := path / "merges.txt"))
            vocabulary = json.loads(read_text(file := path / "vocab.json"))
        else:
            model = json.loads(read_text(file := path / "tokenizer.json"))["model"]
            tokenizer = Tokenizer(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
            vocabulary = model["vocab"]
        if vocabulary != tokenizer.ids:
            raise ValueError("its ids are not bytes, bytes that end a word, merges, start, end, as CLIP's are")
        return tokenizer
    except (ValueError, TypeError, KeyError, RecursionError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"no vocabulary can be read from {file}: it is damaged or something else "
            f"({type(error).__name__}: {error}); get it again"
        ) from None


def read_text(path):
    """The text of a plain or gzip file of at most LARGEST_FILE bytes. Path -> str."""
    with open(path, "rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        # A read takes the memory that it asks for, whatever there is to read.
        most = LARGEST_FILE if packed else min(LARGEST_FILE, os.fstat(file.fileno()).st_size)
        content = (gzip.GzipFile(fileobj=file) if packed else file).read(most + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"it holds more than {LARGEST_FILE} bytes")
    return content.decode("utf-8")


def read_merges(path):
    """The merges that CLIP would use of a file: a header, then lines "left right". Path -> list of str."""
    header, *lines = read_text(path).rstrip().split("\n", CLIP_MERGES + 1)
    if "#version" not in header:
        raise ValueError("its first line lacks '#version'")
    return lines[:CLIP_MERGES]
