"""A tokenizer's files: CLIP's own, Hugging Face's, and what looks like them."""

import gzip
import importlib.util
import json
import tracemalloc
from pathlib import Path

import pytest
from small_tokenizer import CAPTIONS, SMALL

from miniclip.checkpoints import read_tokenizer, vocabulary
from miniclip.tokenizer import Tokenizer


def test_json_and_files_give_the_same_tokenizer_back(tmp_path):
    lines = "#version: 0.2\r\n" + "".join(merge + "\r\n" for merge in SMALL.merges)
    (tmp_path / "merges.txt").write_bytes(lines.replace("\r", "").encode())
    (tmp_path / "windows.txt").write_bytes(lines.encode())
    (tmp_path / "merges.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "vocab.json").write_text(json.dumps(SMALL.ids))
    sources = [tmp_path, *(tmp_path / name for name in ("merges.txt", "windows.txt", "merges.gz"))]
    for n, merges in enumerate((SMALL.merges, [merge.split() for merge in SMALL.merges])):
        (tmp_path / str(n)).mkdir()
        model = {"type": "BPE", "vocab": SMALL.ids, "merges": merges}
        (tmp_path / str(n) / "tokenizer.json").write_text(json.dumps({"model": model}))
        sources.append(tmp_path / str(n))
    copies = [read_tokenizer(source) for source in sources]
    copies.append(Tokenizer.from_json(json.loads(json.dumps(SMALL.to_json()))))
    for copy in copies:
        assert copy.to_json() == SMALL.to_json() and copy.ids == SMALL.ids
        assert copy.encode(" ".join(CAPTIONS)) == SMALL.encode(" ".join(CAPTIONS))


PACKED = gzip.compress(b"#version: 0.2\n" + "\n".join(SMALL.merges).encode(), mtime=0)


NO_TEXT = [b"", b"\x1f\x8b", b"\x89PNG\r\n\x1a", PACKED[:9], PACKED[:40], PACKED[:-1], b"#version\n\xff\xfe"]


@pytest.mark.parametrize("content", [*NO_TEXT, b"a b\nc d\n", b"#version\na\n", b"#version\na b\n\nc d\n"])
def test_a_file_that_is_no_merges_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "odd.txt").write_bytes(content)
    with pytest.raises(ValueError, match="odd.txt"):
        read_tokenizer(tmp_path / "odd.txt")


def test_no_flipped_bit_of_a_gz_file_changes_a_merge(tmp_path):
    path = tmp_path / "flipped.gz"
    for n, byte in enumerate(PACKED):
        path.write_bytes(PACKED[:n] + bytes([byte ^ 1 << n % 8]) + PACKED[n + 1 :])
        try:
            merges = read_tokenizer(path).merges
        except ValueError as refusal:
            assert "flipped.gz" in str(refusal)
        else:
            assert merges == SMALL.merges


@pytest.mark.parametrize(
    "file, content",
    [
        ("vocab.json", "[]"),
        ("vocab.json", "null"),
        ("vocab.json", "{"),
        ("vocab.json", json.dumps(SMALL.ids | {"a": 1})),
        ("vocab.json", "[" * 10**5),
        ("vocab.json", '{"a": %s}' % ("9" * 10**5)),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"model": {"vocab": {}, "merges": 5}}'),
        ("tokenizer.json", '{"model": {"vocab": {}, "merges": [[1, 2]]}}'),
        ("tokenizer.json", '{"model": 3}'),
    ],
)
def test_a_folder_with_something_else_in_it_is_refused_by_name(tmp_path, file, content):
    if file == "vocab.json":
        (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(SMALL.merges))
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=file):
        read_tokenizer(tmp_path)


def test_a_file_that_unpacks_to_a_gigabyte_is_not_unpacked(tmp_path):
    path, piece = tmp_path / "bomb.gz", gzip.compress(b"#version: 0.2\n" + bytes(1 << 24))
    path.write_bytes(piece * 64)
    tracemalloc.start()
    with pytest.raises(ValueError, match="bomb.gz.*more than"):
        read_tokenizer(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * vocabulary.LARGEST_FILE
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_tokenizer(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("package", ["clip", "open_clip"])
def test_what_ships_is_what_others_ship(package):
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    path = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    assert read_tokenizer(path).merges == Tokenizer.clip().merges
