"""PyTorch's archives, put together by hand: whole ones, and what a hostile one may hold."""

import io
import os
import pickle
import zipfile

import numpy as np

CODES = {"<f4": "FloatStorage", "<f2": "HalfStorage", "<f8": "DoubleStorage", "<i8": "LongStorage"}


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
    shape, stride = (many(*map(number, numbers)) for numbers in (shape, stride))
    hooks = name_of("collections", "OrderedDict") + b")R"
    arguments = many(place, number(offset), shape, stride, b"\x89", hooks)
    return name_of("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


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
    parts = {"data.pkl": program, "byteorder": b"little", "version": b"3\n"}
    parts |= {f"data/{key}": content for key, content in storages.items()}
    with zipfile.ZipFile(out, "w") as file:
        for name, content in [*((f"{folder}/{name}", content) for name, content in parts.items()), *more]:
            file.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def packed(arrays, traced=False):
    """The bytes of the .pt file that torch.save, or torch.jit.save, makes of these arrays."""
    storages, tensors, tree = {}, {}, {"training": b"\x88"}
    for key, (name, array) in enumerate(arrays.items()):
        storages[str(key)] = np.ascontiguousarray(array).tobytes()
        tensors[name] = tensor(storage(str(key), array.size, CODES[array.dtype.str]), array.shape)
        *branches, last = name.split(".")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {"training": b"\x88"})
        node[last] = tensors[name]
    if not traced:
        return archive(state_dict(tensors), storages)

    def written(node):
        return module({name: written(child) if isinstance(child, dict) else child for name, child in node.items()})

    return archive(b"\x80\x02" + written(tree) + b".", storages, more=[("archive/constants.pkl", b"\x80\x02).")])


def asking(program):
    """An archive whose data.pkl is this program."""
    return archive(b"\x80\x02" + program + b".", {"0": bytes(4)})


CALLS = {  # what the refusal says: a program that asks for it
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
    "a storage that is none": storage("0", 1).replace(text("storage"), text("module")),
}
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
    "a storage of no number": storage("../x", 1),
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


def modules(times, tensors):
    """One module of many tensors that stands in another many times: times × tensors names."""
    leaf = module({f"t{i}": tensor(storage("0", 0), [0]) for i in range(tensors)})
    more = b"".join(text(f"m{i}") + b"h\0" for i in range(times))
    return name_of("__torch__.a", "B") + b")\x81}(" + text("a") + leaf + b"q\0" + more + b"ub."


BOMBS = {  # what takes few bytes and, unbounded, many times as much memory or seconds
    "modules of many tensors, many times": modules(100, 100),
    "more of them": modules(300, 300),
    "a long name, many times": name_of("__torch__.a", "B")
    + b")\x81}"
    + text("x" * 20_000)
    + modules(2000, 2)[:-1]
    + b"sb.",
    "names that grow": b"".join(name_of("__torch__.a", "B") + b")\x81}" + text("n" * 900) for _ in range(60))
    + module({"a": tensor(storage("0", 0), [0])})
    + b"sb" * 60
    + b".",
    "dicts of one": b"".join(b"}K\1Ns" for _ in range(15_000)) + b".",
    "lists of one": b"".join(b"]Na" for _ in range(15_000)) + b".",
    "numbers": b"M\1\2" * 20_000 + b".",
    "floats": b"G\x3f\xf0\0\0\0\0\0\1" * 20_000 + b".",
    "strings": b"".join(b"X\2\0\0\0\xc4\x80" for _ in range(15_000)) + b".",
    "names of classes": b"c__torch__.a\nB\n" * 6000 + b".",
    "objects": b"c__torch__.a\nB\nq\0" + b"h\0)\x81" * 15_000 + b".",
    "ordered dicts": name_of("collections", "OrderedDict") + b"q\0" + b"h\0)R" * 15_000 + b".",
    "a large dict": b"}(" + b"".join(b"J" + n.to_bytes(4, "little") + b"N" for n in range(15_000)) + b"u.",
    "nothing": b"N" * 60_000 + b".",
}
