"""PyTorch's files: what they hold comes back, and what they ask for is never done."""

import io
import os
import time
import zipfile
import zlib

import numpy as np
import pytest
from checkpoint_files import assert_same_arrays, at_most
from checkpoint_files import refusal as refusal_of
from torch_archives import (
    BOMBS,
    CALLS,
    NONSENSE,
    archive,
    asking,
    module,
    name_of,
    packed,
    state_dict,
    storage,
    tensor,
    text,
)

from miniclip import load
from miniclip.checkpoints.torch_file import read_torch
from miniclip.checkpoints.torch_pickle import Global, run
from miniclip.checkpoints.untrusted import Budget

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.0.bias": np.ones((), np.float16),
    "b": np.arange(4, dtype=np.int64),
    "c.d.e": np.zeros((0, 2)),
}
ONE = state_dict({"a": tensor(storage("0", 1), [1])})


def write(path, content):
    path.write_bytes(content)
    return path


def refusal(path, content):
    return refusal_of(read_torch, write(path, content))


# ------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("traced", [False, True])
def test_the_arrays_come_back(tmp_path, traced):
    again = read_torch(write(tmp_path / "x.pt", packed(ARRAYS, traced)))
    assert_same_arrays(again, ARRAYS)
    assert all(array.flags.c_contiguous for array in again.values())


def test_bfloat16_becomes_float32(tmp_path):
    content = (np.array([1, -2.5, 0.15625], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    program = state_dict({"a": tensor(storage("0", 3, "BFloat16Storage"), [3])})
    path = write(tmp_path / "x", archive(program, {"0": content}))
    assert read_torch(path)["a"].tolist() == [1, -2.5, 0.15625] and read_torch(path)["a"].dtype == np.float32


# ------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("what", CALLS)
def test_a_pickle_that_asks_for_more_than_tensors_is_refused_by_name(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    assert what in refusal(tmp_path / "x.pt", asking(CALLS[what]))
    program = name_of("collections", "OrderedDict") + b")R(" + text("a") + CALLS[what] + b"u"
    refusal(tmp_path / "x.pt", asking(program))
    assert os.listdir() == ["x.pt"]


def test_a_name_is_only_a_name():
    assert isinstance(run(b"\x80\x02" + name_of("__torch__.os", "system") + b".", Budget(0)), Global)


@pytest.mark.parametrize("what", [*NONSENSE, *BOMBS])
def test_a_program_that_makes_no_sense_is_refused_at_no_cost(tmp_path, what):
    path = write(tmp_path / "x", asking((NONSENSE | BOMBS)[what]))
    start = time.process_time()
    with at_most(max(20 * path.stat().st_size, 50_000)):
        refusal_of(read_torch, path)
    assert time.process_time() - start < 5


def test_modules_that_hold_each_other_are_refused(tmp_path):
    loop = b"c__torch__.a\nB\n)\x81q\x00}(" + text("a") + b"h\x00ub"
    assert "too deep" in refusal(tmp_path / "x", asking(loop))
    doubled = module({"a": b"}"})
    for _ in range(60):  # twice the same one within each: 2⁶⁰ names
        doubled = name_of("__torch__.a", "B") + b")\x81}(" + text("a") + doubled + b"q\0" + text("b") + b"h\0ub"
    assert "far more than its size" in refusal(tmp_path / "x", asking(doubled))


BIG = 2**31 - 1
MISFITS = [  # shape, stride, offset, numbers in the storage, whose 16 bytes are 4 numbers
    ([5], [1], 0, 4),
    ([4], [1], 1, 4),
    ([2, 2], [3, 1], 0, 4),
    ([BIG, BIG], [1, 1], 0, 4),
    ([4], [1], 0, 8),
    ([BIG] * 8, [0] * 8, 0, 4),
    ([-1], [1], 0, 4),
    ([4], [-1], 3, 4),
    ([1] * 9, [1] * 9, 0, 4),
    ([8], [0], 0, 4),
    ([0], [1], BIG, -1),
]


@pytest.mark.parametrize("shape, stride, offset, size", MISFITS)
def test_a_tensor_that_does_not_fit_is_refused(tmp_path, shape, stride, offset, size):
    program = state_dict({"a": tensor(storage("0", size), shape, stride, offset)})
    with at_most(1e6):
        refusal(tmp_path / "x", archive(program, {"0": bytes(16)}))


def test_one_storage_cannot_be_a_thousand_tensors(tmp_path):
    views = {f"view {k}": tensor(storage("0", 10_000), [10_000]) for k in range(1000)}
    with at_most(5e6):
        assert "more bytes than the file has" in refusal(
            tmp_path / "x", archive(state_dict(views), {"0": bytes(40_000)})
        )
    parts = {f"part {k}": tensor(storage("0", 100_000), [1], offset=k) for k in range(1000)}
    path = write(tmp_path / "y", archive(state_dict(parts), {"0": np.arange(100_000, dtype="f4").tobytes()}))
    start = time.process_time()
    with at_most(5e6):
        assert [a[0] for a in map(read_torch(path).get, parts)] == list(range(1000))
    assert time.process_time() - start < 5


def test_archives_that_lie_are_refused(tmp_path):
    path, good, whole = tmp_path / "x", archive(ONE, {"0": bytes(4)}), packed(ARRAYS)
    outside = {name: "outside" for name in ("/etc/passwd", "../x", "a\\..\\x")}
    for name, said in (outside | {"other/data.pkl": "2 entries"}).items():
        assert said in refusal(path, archive(ONE, {"0": bytes(4)}, more=[(name, b"")]))
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = archive(ONE, {"0": bytes(4)}, more=[("archive/data/0", bytes(4))])
    assert "two entries" in refusal(path, twice)
    assert "missing" in refusal(path, archive(ONE, {}))
    little, big = (zlib.crc32(order).to_bytes(4, "little") for order in (b"little", b"bigbig"))
    assert "big-endian" in refusal(path, good.replace(b"little", b"bigbig").replace(little, big))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"}" * 5_000_000)
    with at_most(1e6):
        assert "compressed" in refusal(path, out.getvalue())
    for place, said in (
        (whole.index(ARRAYS["a.weight"].tobytes()) + 5, "CRC"),
        (whole.index(b"PK\1\2") + 8, "encrypted"),
    ):
        changed = bytearray(whole)
        changed[place] ^= 1
        assert said in refusal(path, changed)
    for length in (10, 100, len(whole) // 2, len(whole) - 1):
        refusal(path, whole[:length])


def test_files_of_before_1_6_say_how_to_convert_them(tmp_path):
    content = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."  # magic number, protocol version
    sentence = refusal_of(load, write(tmp_path / "old.pt", content))
    assert "before 1.6" in sentence and "torch.save its state_dict again" in sentence
