"""The sealed file: which bytes it has, that it may speak to others beside, and that its seal holds all of it."""

import json
import os

import numpy as np
import pytest
from safetensors import safe_open
from test_checkpoint import refusal
from test_refused import no_waiting_for_the_disk, replace  # noqa: F401

from miniclip.checkpoints.safetensors_file import read_arrays, sealed, write_files

ARRAYS = {
    "b.c": np.ones((2, 2), np.float16),
    "a": np.arange(3.0),
    "d": np.zeros((), np.int64),
    "e": np.zeros((0, 3), np.float32),
}


def write(path, **notes):
    write_files({path: sealed(path, ARRAYS, {"k": [1, "two"]}, **notes)})
    return path


def test_others_read_what_is_sealed(tmp_path):
    with safe_open(write(tmp_path / "x", format="pt"), "np") as file:
        assert file.metadata()["format"] == "pt" and set(file.keys()) == set(ARRAYS)
        assert all(
            np.array_equal(file.get_tensor(name), a)
            and file.get_tensor(name).dtype == a.dtype
            and file.get_tensor(name).shape == a.shape
            for name, a in ARRAYS.items()
        )


def test_every_array_starts_where_its_dtype_may_start(tmp_path):
    content = write(tmp_path / "x").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    for name, array in ARRAYS.items():
        assert header[name]["data_offsets"][0] % array.itemsize == 0


def test_every_flipped_bit_is_refused_with_a_format_beside_the_seal(tmp_path):
    path = write(tmp_path / "x", format="pt")
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            old = replace(path, place, whole[place] ^ 1 << bit)
            refusal(read_arrays, path)
            replace(path, place, old)
    assert read_arrays(path)[1] == {"k": [1, "two"]}


@pytest.mark.parametrize("notes", [{"format": "tf"}, {"format": "pt", "more": "x"}, {"more": "x"}])
def test_other_notes_beside_the_seal_are_refused(tmp_path, notes):
    assert "sha256 differs" in refusal(read_arrays, write(tmp_path / "x", **notes))


def test_all_files_are_safe_before_the_first_is_replaced(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).write_text("old")
    done = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append("safe"))
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(b.name), real(a, b)))
    write_files({tmp_path / "b": b"newer", tmp_path / "a": b"new"})
    assert done == ["safe", "safe", "b", "a"]
    assert [(tmp_path / name).read_text() for name in "ab"] == ["new", "newer"] and len(os.listdir(tmp_path)) == 2
