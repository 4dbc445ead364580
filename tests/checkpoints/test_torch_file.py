"""PyTorch's files: what they hold comes back, and what they ask for is never done."""

import io
import os
import pickle
import time
import zipfile
import zlib

import numpy as np
import pytest
from test_refused import at_most

from miniclip.checkpoints.torch_file import read_torch
from miniclip.checkpoints.torch_pickle import Global, run

# ------------------------------------------------------------------- archives, put together by hand


def text(string):
    return b"X" + len(string.encode()).to_bytes(4, "little") + string.encode()


def number(n):
    return b"J" + n.to_bytes(4, "little", signed=True)


def many(*parts):
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


def name_of(module, what):
    return f"c{module}\n{what}\n".encode()


def storage(key, size, dtype="FloatStorage"):
    return many(text("storage"), name_of("torch", dtype), text(key), text("cpu"), number(size)) + b"Q"


def tensor(place, shape, stride=None, offset=0):
    stride = stride or [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    parts = (
        place,
        number(offset),
        many(*map(number, shape)),
        many(*map(number, stride)),
        b"\x89",
        name_of("collections", "OrderedDict") + b")R",
    )
    return name_of("torch._utils", "_rebuild_tensor_v2") + many(*parts) + b"R"


def entries(items):
    return b"(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def state_dict(items):
    return b"\x80\x02" + name_of("collections", "OrderedDict") + b")R" + entries(items) + b"."


def module(items):
    """A module as torch.jit.save writes it; items: {name: what is in it}."""
    return name_of("__torch__.some", "Module") + b")\x81}" + entries(items) + b"b"


def archive(program, storages, folder="archive", more=()):
    """The bytes of a .pt file. storages: {key: bytes}; more: (name, content) of further entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in [
            ("data.pkl", program),
            ("byteorder", b"little"),
            ("version", b"3\n"),
            *((f"data/{key}", content) for key, content in storages.items()),
        ]:
            file.writestr(zipfile.ZipInfo(f"{folder}/{name}"), content)
        for name, content in more:
            file.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


CODES = {"<f4": "FloatStorage", "<f2": "HalfStorage", "<f8": "DoubleStorage", "<i8": "LongStorage"}


def packed(arrays, traced=False):
    """The bytes of the .pt file that torch.save, or torch.jit.save, makes of these arrays."""
    storages = {str(k): np.ascontiguousarray(array).tobytes() for k, array in enumerate(arrays.values())}
    tensors = {
        name: tensor(storage(str(k), array.size, CODES[array.dtype.str]), array.shape)
        for k, (name, array) in enumerate(arrays.items())
    }
    if not traced:
        return archive(state_dict(tensors), storages)
    tree = {}
    for name, value in tensors.items():
        *branches, last = name.split(".")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[last] = value

    def written(node):
        return module(
            {"training": b"\x88"}
            | {name: written(child) if isinstance(child, dict) else child for name, child in node.items()}
        )

    return archive(b"\x80\x02" + written(tree) + b".", storages, more=[("archive/constants.pkl", b"\x80\x02).")])


def write(path, content):
    path.write_bytes(content)
    return path


def refusal(path):
    with pytest.raises(ValueError) as caught:
        read_torch(path)
    sentence = str(caught.value)
    assert str(path) in sentence and "\n" not in sentence and len(sentence) < 600
    return sentence


ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.0.bias": np.ones((), np.float16),
    "b": np.arange(4, dtype=np.int64),
    "c.d.e": np.zeros((0, 2)),
}
ONE = {"a": tensor(storage("0", 1), [1])}

# ------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("traced", [False, True])
def test_the_arrays_come_back(tmp_path, traced):
    again = read_torch(write(tmp_path / "x.pt", packed(ARRAYS, traced)))
    assert again.keys() == ARRAYS.keys()
    assert all(
        np.array_equal(again[n], a)
        and again[n].dtype == a.dtype
        and again[n].shape == a.shape
        and again[n].flags.writeable
        and again[n].flags.c_contiguous
        for n, a in ARRAYS.items()
    )


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_itself_writes(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    whole = (torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * 3).to(getattr(torch, dtype))
    tensors = {
        "whole": whole,
        "transposed": whole.T,
        "part": whole[1:, 2:5],
        "steps": whole[::2, ::3],
        "row": whole[2],
        "scalar": whole[1, 1],
        "empty": whole[:0],
        "parameter": torch.nn.Parameter(whole.clone(), False),
    }
    torch.save(
        {"epoch": 3, "rate": 0.1, "betas": (0.9, [1]), "none": None, "big": 1 << 40, "state_dict": tensors},
        tmp_path / "x.pt",
    )
    again = read_torch(tmp_path / "x.pt")
    assert again.keys() == tensors.keys()
    for name, value in tensors.items():
        value = (value.float() if dtype == "bfloat16" else value).detach().numpy()
        assert np.array_equal(again[name], value.astype("u1") if dtype == "bool" else value), name
        assert again[name].flags.c_contiguous and again[name].flags.writeable
    before = again["transposed"].copy()
    again["whole"][...] = 0  # they shared one storage, and do not here
    assert np.array_equal(again["transposed"], before) and before.any()


def test_bfloat16_becomes_float32(tmp_path):
    content = (np.array([1, -2.5, 0.15625], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    program = state_dict({"a": tensor(storage("0", 3, "BFloat16Storage"), [3])})
    path = write(tmp_path / "x", archive(program, {"0": content}))
    assert read_torch(path)["a"].tolist() == [1, -2.5, 0.15625] and read_torch(path)["a"].dtype == np.float32


# ------------------------------------------------------------------------------------ what is refused


def asking(program):
    return archive(b"\x80\x02" + program + b".", {"0": bytes(4)})


CALLS = {
    "os.system": name_of("os", "system") + many(text("touch ran")) + b"R",
    "posix.mkdir": pickle.dumps(os.mkdir, 2)[2:-1] + many(text("ran")) + b"R",
    "builtins.eval": name_of("builtins", "eval") + many(text("open('ran', 'w')")) + b"R",
    "builtins.__import__": name_of("builtins", "__import__") + many(text("antigravity")) + b"R",
    "torch.nn.modules.linear.Linear": name_of("torch.nn.modules.linear", "Linear") + b")\x81}b",
    "torch._utils._rebuild_wrapper_subclass": name_of("torch._utils", "_rebuild_wrapper_subclass") + b")R",
    "torch.load": name_of("torch", "load") + many(text("x")) + b"R",
    "INST": b"(" + text("touch ran") + b"ios\nsystem\n",
    "OBJ": b"(" + name_of("__torch__.a", "B") + text("x") + b"o",
    "NEWOBJ_EX": name_of("__torch__.a", "B") + b")}\x92",
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\x00",
    "STACK_GLOBAL": text("os") + text("system") + b"\x93",
    "PERSID": b"P../../secret\n",
    "BINBYTES8": b"\x8e\x03\0\0\0\0\0\0\0abc",
    "MEMOIZE": b"}\x94",
    "FROZENSET": b"(\x91",
    "BYTEARRAY8": b"\x96\x01\0\0\0\0\0\0\0a",
    "makes an object of torch FloatStorage": name_of("torch", "FloatStorage") + b")\x81",
    "calls torch.FloatStorage": name_of("torch", "FloatStorage") + b")R",
    "calls __torch__.os.system": name_of("__torch__.os", "system") + many(text("touch ran")) + b"R",
    "makes an object of __torch__.a": name_of("__torch__.a", "B") + many(text("x")) + b"\x81",
    "no state_dict": text("hello"),
    "no tensors": b"}",
    "a storage that is none": many(text("module"), name_of("torch", "FloatStorage"), text("0"), text("cpu"), number(1))
    + b"Q",
}


@pytest.mark.parametrize("what", CALLS)
def test_a_pickle_that_asks_for_more_than_tensors_is_refused_by_name(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "x.pt", asking(CALLS[what]))
    assert what in refusal(path)
    program = b"\x80\x02" + name_of("collections", "OrderedDict") + b")R(" + text("a") + CALLS[what] + b"u."
    refusal(write(tmp_path / "y.pt", archive(program, {})))
    assert sorted(os.listdir()) == ["x.pt", "y.pt"]


def test_a_name_is_only_a_name():
    assert isinstance(run(b"\x80\x02" + name_of("__torch__.os", "system") + b"."), Global)


BIG = 2**31 - 1
NONSENSE = {
    "an empty stack": b"",
    "a mark alone": b"(",
    "no mark": b"t",
    "below the mark": b"}(a",
    "a missing memo": b"h\x05",
    "a tuple of nothing": b"\x85",
    "a key that is a tuple": b"})}s",
    "a key that is true": b"}\x88}s",
    "an odd dict": b"}(Nu",
    "a list as a dict": b"](" + text("a") + b"Nu",
    "a dict as a list": b"}(Ne",
    "a state that is no dict": name_of("__torch__.a", "B") + b")\x81)b",
    "a tensor without a storage": tensor(b"N", [1]),
    "a storage of no number": many(
        text("storage"), name_of("torch", "FloatStorage"), text("../x"), text("cpu"), number(1)
    )
    + b"Q",
    "a number of 4300 digits": b"L" + b"9" * 5000 + b"L\n",
    "a long of 255 bytes": b"\x8a\xff" + b"\x7f" * 255,
    "a long that lies": b"\x8b\xff\xff\xff\x7f",
    "a string that lies": b"X\xff\xff\xff\x7f",
    "a frame that lies": b"\x95" + b"\xff" * 7 + b"\x7f",
    "bytes that lie": b"\x8e" + b"\xff" * 7 + b"\x7f",
    "a memo at the end of the world": b"}r\xff\xff\xff\xff.",
    "deep tuples": b")" + b"\x85" * 100_000,
    "deep lists": b"]" * 100_000 + b"a" * 99_999,
    "marks": b"(" * 100_000,
    "many dicts": b"}" * 100_000,
    "many memos": b"}" + b"".join(b"r" + n.to_bytes(4, "little") for n in range(50_000)),
    "many lists in one": b"](" + b"]" * 100_000 + b"e",
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_program_that_makes_no_sense_is_refused_at_no_cost(tmp_path, what):
    path = write(tmp_path / "x", asking(NONSENSE[what]))
    start = time.process_time()
    with at_most(20 * path.stat().st_size + 1e6):
        refusal(path)
    assert time.process_time() - start < 5


def test_modules_that_hold_each_other_are_refused(tmp_path):
    loop = b"c__torch__.a\nB\n)\x81q\x00}(" + text("a") + b"h\x00ub"
    assert "too deep" in refusal(write(tmp_path / "x", asking(loop)))
    doubled = module({"a": b"}"})
    for _ in range(60):  # twice the same one within each: 2⁶⁰ names
        doubled = name_of("__torch__.a", "B") + b")\x81}(" + text("a") + doubled + b"q\1" + text("b") + b"h\1ub"
    assert "too many" in refusal(write(tmp_path / "x", asking(doubled)))


@pytest.mark.parametrize(
    "shape, stride, offset, size",
    [
        ([5], None, 0, 4),
        ([4], None, 1, 4),
        ([2, 2], [3, 1], 0, 4),
        ([BIG, BIG], None, 0, 4),
        ([4], None, 0, 8),
        ([BIG] * 8, [0] * 8, 0, 4),
        ([-1], [1], 0, 4),
        ([4], [-1], 3, 4),
        ([1] * 9, None, 0, 4),
        ([8], [0], 0, 4),
        ([0], [1], BIG, -1),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(tmp_path, shape, stride, offset, size):
    stride = stride if stride else [1] * len(shape)
    program = state_dict({"a": tensor(storage("0", size), shape, stride, offset)})
    path = write(tmp_path / "x", archive(program, {"0": bytes(16)}))
    with at_most(1e6):
        refusal(path)


def test_one_storage_cannot_be_a_thousand_tensors(tmp_path):
    views = {f"view {k}": tensor(storage("0", 10_000), [10_000]) for k in range(1000)}
    path = write(tmp_path / "x", archive(state_dict(views), {"0": bytes(40_000)}))
    with at_most(5e6):
        assert "more bytes than the file has" in refusal(path)
    parts = {f"part {k}": tensor(storage("0", 100_000), [1], offset=k) for k in range(1000)}
    path = write(tmp_path / "y", archive(state_dict(parts), {"0": np.arange(100_000, dtype="f4").tobytes()}))
    start = time.process_time()
    with at_most(5e6):
        assert [a[0] for a in map(read_torch(path).get, parts)] == list(range(1000))
    assert time.process_time() - start < 5


def test_archives_that_lie_are_refused(tmp_path):
    whole = packed(ARRAYS)
    for more, said in (
        ([("/etc/passwd", b"")], "outside"),
        ([("../x", b"")], "outside"),
        ([("a\\..\\x", b"")], "outside"),
        ([("other/data.pkl", b"")], "2 entries"),
    ):
        assert said in refusal(write(tmp_path / "x", archive(state_dict(ONE), {"0": bytes(4)}, more=more)))
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = archive(state_dict(ONE), {"0": bytes(4)}, more=[("archive/data/0", bytes(4))])
    assert "two entries" in refusal(write(tmp_path / "x", twice))
    assert "missing" in refusal(write(tmp_path / "x", archive(state_dict(ONE), {})))
    assert "big-endian" in refusal(
        write(
            tmp_path / "x",
            archive(state_dict(ONE), {"0": bytes(4)})
            .replace(b"little", b"bigbig")
            .replace(zlib.crc32(b"little").to_bytes(4, "little"), zlib.crc32(b"bigbig").to_bytes(4, "little")),
        )
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"}" * 5_000_000)
    with at_most(1e6):
        assert "compressed" in refusal(write(tmp_path / "x", out.getvalue()))
    content = whole[: whole.index(ARRAYS["a.weight"].tobytes())]
    damaged = bytearray(whole)
    damaged[len(content) + 5] ^= 1
    assert "CRC" in refusal(write(tmp_path / "x", damaged))
    central = bytearray(whole)
    start = whole.index(b"PK\1\2")
    central[start + 8] |= 1
    assert "encrypted" in refusal(write(tmp_path / "x", central))
    for length in (10, 100, len(whole) // 2, len(whole) - 1):
        refusal(write(tmp_path / "x", whole[:length]))


def test_files_of_before_1_6_say_how_to_convert_them(tmp_path):
    torch = pytest.importorskip("torch")
    from miniclip import load

    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="before 1.6.*torch.save its state_dict again"):
        load(tmp_path / "old.pt")
