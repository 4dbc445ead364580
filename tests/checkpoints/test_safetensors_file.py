"""Arrays in a file: what is written comes back to the bit, whole or not at all, and no other file is taken for one."""

import json
import os
import pickle
import platform
import random
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import assert_same_arrays, at_most, entry, raw, refusal, replace_byte
from safetensors import safe_open
from safetensors.numpy import save as to_bytes
from safetensors.numpy import save_file

import miniclip
from miniclip import load
from miniclip.checkpoints import read_arrays, write_arrays
from miniclip.checkpoints.safetensors_file import DTYPES, _checksum, with_checksum, write_files

ARRAYS = {"b.c": np.ones((2, 2), "f2"), "a": np.arange(3.0), "d": np.zeros((), "i8"), "e": np.zeros((0, 3), "f4")}


def write(path, **notes):
    write_files({path: with_checksum(path, ARRAYS, {"k": [1, "two"]}, **notes)})
    return path


# ------------------------------------------------------------------------------------- round trips


def test_arrays_of_any_layout_and_type_come_back(tmp_path):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 4, 3))
    arrays = ARRAYS | {"transposed": a.T, "strided": a[::2, :, ::-1], "fortran": np.asfortranarray(a)}
    arrays["repeated"] = np.broadcast_to(a[0], (3, 4, 3))
    arrays |= {t: rng.integers(0, 100, (3, 5)).astype(t).T for t in "f2 f4 i1 i2 i4 i8 u1 u2 u4 u8".split()}
    metadata = {"text": 'é " \\ \n \ud800', "nested": [1, 2.5, None, True, {"a": []}]}
    write_arrays(tmp_path / "x", arrays, metadata)
    again, notes = read_arrays(tmp_path / "x")
    assert notes == metadata
    assert_same_arrays(again, arrays)


def test_a_file_from_elsewhere_is_read_with_bfloat16(tmp_path):
    save_file({"a": np.ones((2, 3), np.float16)}, tmp_path / "x", {"format": "pt"})
    arrays, notes = read_arrays(tmp_path / "x")
    assert notes == {"format": "pt"} and np.array_equal(arrays["a"], np.ones((2, 3)))
    values = np.array([1, -2.5, 3e38, np.inf, 0], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "x").write_bytes(raw({"a": entry([5], [0, 10], "BF16")}, upper))
    assert read_arrays(tmp_path / "x")[0]["a"].dtype == np.float32
    np.testing.assert_allclose(read_arrays(tmp_path / "x")[0]["a"], values, rtol=2**-7)
    assert "no config" in refusal(load, tmp_path / "x")


def test_others_read_what_is_written_at_places_that_suit_its_dtypes(tmp_path):
    path = write(tmp_path / "x", format="pt")
    with safe_open(path, "np") as file:
        assert file.metadata()["format"] == "pt"
        assert_same_arrays({name: file.get_tensor(name) for name in file.keys()}, ARRAYS)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0 and all(header[n]["data_offsets"][0] % a.itemsize == 0 for n, a in ARRAYS.items())


# --------------------------------------------------------------------------- writing, whole or not


CANNOT = [  # arrays, metadata, what is named
    ({"a": np.ones(2, object)}, {}, "a of dtype object"),
    ({"a": np.ones(2, complex)}, {}, "a of dtype complex128"),
    ({"__metadata__": np.ones(2)}, {}, "__metadata__"),
    ({}, {"x": float("nan")}, "metadata"),
    ({}, {"x": object()}, "metadata"),
    ({}, {"x": "x" * (1 << 22)}, "bytes"),
    ({}, {"x": [[] for _ in range(50_000)]}, "metadata"),  # which could not be read again
    ({str(n): np.zeros((), "u1") for n in range(5000)}, {}, "names .* read again"),
]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    before = write(tmp_path / "x").read_bytes()
    for arrays, metadata, culprit in CANNOT:
        with pytest.raises(ValueError, match=culprit):
            write_arrays(tmp_path / "x", arrays, metadata)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="x could not be written .No space.*; what was there before is whole"):
        write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == before and os.listdir(tmp_path) == ["x"]


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        write_arrays(tmp_path / "nowhere" / "x", {}, {})
    with pytest.raises(ValueError, match="is no file"):
        write_arrays(tmp_path, {}, {})
    with pytest.raises(FileNotFoundError, match="no file .*gone"):
        read_arrays(tmp_path / "gone")
    assert os.listdir(tmp_path) == []


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_arrays(tmp_path / "link", {"a": np.ones(2)}, {})
    assert (tmp_path / "link").is_symlink() and read_arrays(tmp_path / "target")[1] == {}


def test_all_files_are_safe_before_the_first_is_replaced(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).write_text("old")
    done, real = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda _: done.append("safe"))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(b.name), real(a, b)))
    write_files({tmp_path / "b": b"newer", tmp_path / "a": b"new"})
    assert done == ["safe", "safe", "b", "a"]
    assert [(tmp_path / name).read_text() for name in "ab"] == ["new", "newer"] and len(os.listdir(tmp_path)) == 2


def test_writing_takes_no_memory_and_reading_that_of_the_file(tmp_path):
    """So there is little that can run out, and where it does, NumPy says so."""
    arrays = {name: np.ones(1_000_000) for name in "ab"}
    with at_most(100_000):
        write_arrays(tmp_path / "x", arrays, {})
    with at_most(16_100_000):
        assert read_arrays(tmp_path / "x")[0]["b"].sum() == 1_000_000


@pytest.mark.parametrize("host, process, seconds, stays", [
    ("here", 1, 0, True),  # a process that lives
    ("here", 4_000_000, 0, False),
    ("elsewhere", 4_000_000, 0, True),  # nobody knows
    ("elsewhere", 1, 4000, False),
])  # fmt: skip
def test_what_another_write_left_is_removed_when_nobody_needs_it(tmp_path, host, process, seconds, stays):
    host = {"here": platform.node()}.get(host, host)
    left, other = (tmp_path / f"{name}.{host}-{process}-0123abcd.tmp" for name in ("x", "y"))
    for file in (left, other):
        file.touch()
        os.utime(file, (time.time() - seconds,) * 2)
    write(tmp_path / "x")
    assert left.exists() == stays and other.exists()


def test_two_writes_at_a_time_do_not_meet(tmp_path):
    """Twenty writes of one file by four threads: each is whole, and the last one stays."""

    def write_one(k):
        write_arrays(tmp_path / "x", {"a": np.full(10_000, k)}, {"k": k})
        arrays, notes = read_arrays(tmp_path / "x")
        return (arrays["a"] == notes["k"]).all()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write_one, range(20)))
    assert os.listdir(tmp_path) == ["x"]


def test_the_library_itself_writes_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"é{n}.{t}": rng.integers(0, 9, (n, 3)).astype(t) for t in DTYPES.values() for n in (0, 2)}
    ours = b"".join(map(bytes, with_checksum("x", arrays, {"k": 'é " \\ \n'})))
    metadata = json.loads(ours[8 : 8 + int.from_bytes(ours[:8], "little")])["__metadata__"]
    assert ours == to_bytes(arrays, metadata)


WRITER = """
import os, signal, sys
import numpy as np
from miniclip.checkpoints import write_arrays
path, die_in = sys.argv[1:]
for k in range(1_000_000):
    if k and die_in:
        setattr(os, die_in, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    write_arrays(path, {"a": np.full(1_000_000, k), "b": np.full((3, 5), k)}, {"k": k})
    if k == 0:
        print("written", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("die_in", ["fsync", "replace", "", "", ""])
def test_sigkill_in_the_middle_of_a_write_leaves_a_whole_file(tmp_path, die_in):
    path = tmp_path / "state.safetensors"
    command = [sys.executable, "-c", WRITER, str(path), die_in]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(miniclip.__file__).parents[1]) as process:
        assert process.stdout.readline() == b"written\n"
        if not die_in:
            time.sleep(random.Random(os.urandom(4)).uniform(0, 0.15))
            process.kill()
        assert process.wait() == -signal.SIGKILL
    arrays, metadata = read_arrays(path)
    assert all((a == metadata["k"]).all() for a in arrays.values())
    if die_in:
        left = [name for name in os.listdir(tmp_path) if name != path.name]
        assert metadata["k"] == 0 and len(left) == 1 and left[0].startswith(path.name) and left[0].endswith(".tmp")
    write_arrays(path, {}, {"k": -1})
    assert read_arrays(path) == ({}, {"k": -1}) and os.listdir(tmp_path) == [path.name]


# --------------------------------------------------------------------- damaged, hostile, something else


@pytest.mark.parametrize("notes", [{}, {"format": "pt"}])
def test_every_flipped_bit_is_refused(tmp_path, notes):
    path = write(tmp_path / "x", **notes)
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    changes = [(i, whole[i] ^ 1 << bit) for i in range(len(whole)) for bit in range(8)]
    changes += [(end - 1, ord(other)) for other in "\t\n\r}"]  # which JSON would not mind
    for place, byte in changes:
        old = replace_byte(path, place, byte)
        refusal(read_arrays, path)
        replace_byte(path, place, old)
    assert read_arrays(path)[1] == {"k": [1, "two"]}


CHANGES = [(b"[2,2]", b"[4,1]"), (b'"F64"', b'"I64"'), (b'"b.c"', b'"b.d"'), (b"two", b"six")]


@pytest.mark.parametrize("old, new", CHANGES)
def test_numbers_that_are_read_as_others_are_refused(tmp_path, old, new):
    path = write(tmp_path / "x")
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    assert "sha256 differs" in refusal(read_arrays, path)


@pytest.mark.parametrize("notes", [{"format": "tf"}, {"format": "pt", "more": "x"}, {"more": "x"}])
def test_other_notes_beside_the_checksum_are_refused(tmp_path, notes):
    assert "sha256 differs" in refusal(read_arrays, write(tmp_path / "x", **notes))


BIG = 10**12
HOSTILE = {
    "a size that lies": raw({"a": entry([BIG], [0, 4 * BIG])}, bytes(4)),
    "a shape that lies": raw({"a": entry([BIG])}, bytes(4)),
    "a product that overflows": raw({"a": entry([2**32, 2**32])}, bytes(4)),
    "a shape of nothing times everything": raw({"a": entry([0, BIG, BIG], [0, 0])}),
    "65 dimensions": raw({"a": entry([1] * 65)}, bytes(4)),
    "a negative shape": raw({"a": entry([-1])}, bytes(4)),
    "overlapping places": raw({"a": entry(), "b": entry()}, bytes(4)),
    "places with a hole": raw({"a": entry(), "b": entry(offsets=[8, 12])}, bytes(12)),
    "places the wrong way": raw({"a": entry(offsets=[4, 0])}, bytes(4)),
    "bytes that nothing claims": raw({"a": entry()}, bytes(5)),
    "an unknown dtype": raw({"a": entry(dtype="F99")}, bytes(4)),
    "a dtype that NumPy lacks": raw({"a": entry([4], dtype="F8_E4M3")}, bytes(4)),
    "no dtype": raw({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "one key too many": raw({"a": entry() | {"more": 1}}, bytes(4)),
    "a header longer than the file": raw({"a": entry()}, bytes(4), length=10**6),
    "the longest header": raw({}, length=2**64 - 1),
    "a huge header": raw(b"{" + b" " * (1 << 23) + b"}"),
    "a header of no length": raw(b"", bytes(100)),
    "deep nesting": raw(b'{"a":' * 500_000),
    "deep lists": raw(b'{"a":' + b"[" * 1_000_000),
    "a list for a header": raw([1, 2]),
    "a header that is no UTF-8": raw(b'{"\xff": 1}'),
    "metadata with a number": raw({"__metadata__": {"miniclip": 1}}),
    "metadata that are a list": raw({"__metadata__": ["miniclip"]}),
    "metadata twice": raw(b'{"__metadata__":{"a":"b"},"__metadata__":{"miniclip":"c"}}'),
    "a checksum of nothing": raw({"__metadata__": {"miniclip": ""}}),
    "a checksum of other content": raw({"__metadata__": {"miniclip": f"sha256 {'0' * 64} {{}}"}}),
    "metadata that are no JSON": raw({"__metadata__": {"miniclip": _checksum({}, "{")}}),
    "metadata that are a list with a checksum": raw({"__metadata__": {"miniclip": _checksum({}, "[]")}}),
    "a name twice": raw(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(4)),
    "a shape of truths": raw({"a": entry([True])}, bytes(4)),
    "a place of three": raw({"a": entry(offsets=[0, 4, 8])}, bytes(4)),
    "an array that is none": raw({"a": 1}, bytes(4)),
    "many small arrays": raw({f"{n}": entry(offsets=[n, n], shape=[0], dtype="U8") for n in range(10_000)}),
    "many lists": raw({"__metadata__": {"miniclip": _checksum({}, '{"a":[' + "[]," * 100_000 + "0]}")}}),
    "many dicts": raw(b'{"a":[' + b'{"a":0},' * 100_000 + b"0]}"),
    "metadata in deep nesting": raw({"__metadata__": {"miniclip": _checksum({}, "[" * 100_000)}}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_is_refused_at_no_cost(tmp_path, what):
    path = tmp_path / "x"
    path.write_bytes(HOSTILE[what])
    with at_most(2 * len(HOSTILE[what]) + 1e6):
        refusal(read_arrays, path)
    refusal(load, path)


class Malice:
    def __reduce__(self):
        return os.mkdir, ("ran",)


OTHERS = [
    (pickle.dumps(Malice()), "pickle"),
    (pickle.dumps(Malice(), 2), "pickle"),
    (b"<!DOCTYPE html><html>404</html>", "web page"),
    (b'{"config": {}, "text": 1}', "JSON"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    (b"these are no weights", "something else"),
    (raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(ord("<")), b"\0\0"), "cut short"),
]


def test_another_kind_of_file_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content, kind in OTHERS:
        (tmp_path / "x").write_bytes(content)
        assert kind in refusal(load, tmp_path / "x")
    with zipfile.ZipFile("model.pt", "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Malice()))
    assert "zip" in refusal(load, tmp_path / "model.pt") and not (tmp_path / "ran").exists()
