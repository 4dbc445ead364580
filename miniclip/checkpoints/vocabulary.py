"""A tokenizer read from its files: CLIP's own vocabulary file, or those of Hugging Face."""

import gzip
import os
import zlib
from pathlib import Path

from ..tokenizer import CLIP_MERGES, Tokenizer
from .untrusted import Damaged, in_our_words, parse_json

LARGEST_FILE = 1 << 23  # bytes once unpacked; CLIP's has 3.2 million
UNPACKED = 6  # times its size; CLIP's, 2.4


def read_tokenizer(path, most=None):
    """Read CLIP's vocabulary file, or a Hugging Face folder.

    path: bpe_simple_vocab_16e6.txt.gz, the same unpacked, any merges.txt, or a folder that holds
    merges.txt and vocab.json, or tokenizer.json. most: merges that a folder may have.
    FileNotFoundError, or ValueError naming the file.
    """
    path = file = Path(path)
    try:
        if not path.is_dir():
            return Tokenizer(read_merges(path))
        if (path / "merges.txt").exists():
            tokenizer = _tokenizer(read_merges(file := path / "merges.txt"), most)
            vocabulary = parse_json(read_text(file := path / "vocab.json"), unique=False)
        else:
            model = parse_json(read_text(file := path / "tokenizer.json"), unique=False)
            model = model.get("model") if isinstance(model, dict) else None
            if not isinstance(model, dict) or not isinstance(model.get("merges"), list):
                raise Damaged("it has no model with a list of merges")
            merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
            tokenizer = _tokenizer(merges, most)
            vocabulary = model.get("vocab")
        if vocabulary != tokenizer.ids:
            raise Damaged("its ids are not bytes, bytes that end a word, merges, start, end, as CLIP's are")
        return tokenizer
    except (ValueError, TypeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        why = in_our_words(error, "it is cut short, or no such file")
        raise ValueError(
            f"no vocabulary can be read from {file}: it is damaged or something else ({why}); get it again"
        ) from None


def _tokenizer(merges, most):
    """A tokenizer of at most so many merges, whose own refusals are in our words."""
    if most is not None and len(merges) > most:
        raise Damaged(f"it has {len(merges)} merges, and the model has tokens for {most}")
    try:
        return Tokenizer(merges)
    except ValueError as error:
        raise Damaged(error) from None


def read_text(path):
    """The text of a plain or gzip file of at most LARGEST_FILE bytes. Path -> str."""
    if not path.is_file():
        raise Damaged("it is missing, or no file") if path.exists() else FileNotFoundError(f"there is no {path}.")
    with open(path, "rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        # A read takes the memory that it asks for, whatever there is to read.
        most = min(LARGEST_FILE, os.fstat(file.fileno()).st_size * (UNPACKED if packed else 1))
        content = (gzip.GzipFile(fileobj=file) if packed else file).read(most + 1)
    if len(content) > most:
        raise Damaged(f"it holds more than {most} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise Damaged("it is no UTF-8") from None


def read_merges(path):
    """The merges that CLIP would use of a file: a header, then lines "left right". Path -> list of str."""
    header, *lines = read_text(path).rstrip().split("\n", CLIP_MERGES + 1)
    if "#version" not in header:
        raise Damaged("its first line lacks '#version'")
    return lines[:CLIP_MERGES]
