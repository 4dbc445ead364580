"""PyTorch's pickles, read without PyTorch and without trusting them.

A pickle is a small program for a stack machine that rebuilds objects, and it may ask for any function of
Python and call it: such a file may do anything. The machine below knows the few instructions that tensors
need and the few names in `KNOWN`, and calls nothing at all: a tensor is only written down.

    {"ln_final.weight": rebuild(storage "7", offset 0, shape (512,), stride (1,)), …}

Everything else is refused by its name. Modules of torch.jit.save, of classes `__torch__.…`, become bare holders of
attributes. What is built on the way is bounded by the bytes that the program has.

Source: the pickles that PyTorch writes (protocol 2); Python's documentation of pickletools.
"""

import pickletools
from dataclasses import dataclass, field

import numpy as np

MOST_MODULES, DEEPEST = 1 << 14, 64  # modules in all, and within each other
BFLOAT16 = np.dtype("<u2")  # its 16 bits, for NumPy has none; no other storage has this type
NAMES = "Float Half Double BFloat16 Long Int Short Char Byte Bool".split()
CODES = "<f4   <f2  <f8    <u2      <i8  <i4 <i2   |i1  |u1  |u1".split()
STORAGES = {f"torch {name}Storage": np.dtype(code) for name, code in zip(NAMES, CODES)}
TENSOR, PARAMETER = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
LISTS = {f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor")}
KNOWN = {TENSOR, PARAMETER, "collections OrderedDict", *LISTS, *STORAGES}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# Instructions that take more memory than their own bytes account for.
COUNTED = """
    BININT BINFLOAT LONG1 TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST EMPTY_DICT LONG_BINPUT GLOBAL BINPERSID NEWOBJ REDUCE
""".split()


@dataclass(eq=False, slots=True)
class Global:
    """The name of something that the pickle asks for: never the thing itself."""

    name: str


@dataclass(eq=False, slots=True)
class Module:
    """A module of a TorchScript archive: its attributes by their names."""

    state: dict = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Storage:
    """Where numbers lie: `size` of them in the entry data/<key> of the archive."""

    dtype: np.dtype
    key: str
    size: int


@dataclass(eq=False, slots=True)
class Tensor:
    """A tensor before its numbers are read."""

    storage: Storage
    offset: int
    shape: tuple
    stride: tuple


def run(program):
    """What a pickle's program (bytes) builds, out of dict, list, tuple, str, numbers, Module and Tensor.

    Raises ValueError for an instruction that is not known here, and ValueError, TypeError or LookupError
    for a program that makes no sense. Nothing is called.
    """
    stack, marks, memo = [], [], {}
    left = 1000 + len(program) // 6  # counted instructions; real files have one in nine bytes

    def items():
        """What lies above the last mark."""
        start = marks.pop()
        above, stack[start:] = stack[start:], []
        return above

    for opcode, value, _ in pickletools.genops(program):
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "BININT" | "BININT1" | "BININT2" | "BINFLOAT" | "BINUNICODE":
                stack.append(value)
            case "LONG1" if abs(value) < 1 << 63:
                stack.append(value)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(CONSTANTS[opcode.name])
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if opcode.name == "EMPTY_LIST" else {})
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(opcode.name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "TUPLE":
                stack.append(tuple(items()))
            case "APPEND" | "APPENDS":
                new = items() if opcode.name == "APPENDS" else [stack.pop()]
                _expect(stack[-1], list).extend(new)
            case "SETITEM" | "SETITEMS":
                new = items() if opcode.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                for key, thing in zip(new[::2], new[1::2], strict=True):
                    _expect(stack[-1], dict)[_expect(key, (str, int))] = thing
            case "GLOBAL":
                if value not in KNOWN and not value.startswith("__torch__."):
                    asked = value.replace(" ", ".")[:80]
                    raise ValueError(f"its pickle asks for {asked}, which no tensor needs; save the state_dict alone")
                stack.append(Global(value))
            case "BINPERSID":
                stack.append(_storage(*_expect(stack.pop(), tuple)))
            case "NEWOBJ":
                arguments, what = stack.pop(), _expect(stack.pop(), Global).name
                if not what.startswith("__torch__.") or arguments != ():
                    raise ValueError(f"its pickle makes an object of {what[:80]}")
                stack.append(Module())
            case "REDUCE":
                arguments, what = _expect(stack.pop(), tuple), _expect(stack.pop(), Global).name
                stack.append(_rebuilt(what, arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Module):
                    stack[-1].state = _expect(state, dict)
                else:
                    _expect(stack[-1], dict)  # an OrderedDict's own attributes, such as versions
            case name:
                raise ValueError(f"its pickle uses the instruction {name}, which no tensor needs")
        if marks and len(stack) < marks[-1]:
            raise ValueError("its pickle takes what lies below a mark")
        left -= opcode.name in COUNTED
        if left < 0:
            raise ValueError("its pickle builds far more objects than tensors need")
    return stack.pop()


def _expect(value, kinds):
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"its pickle has a {type(value).__name__} where that makes no sense")
    return value


def _storage(kind, dtype, key, location, size):
    dtype = STORAGES.get(_expect(dtype, Global).name)
    if kind != "storage" or dtype is None or not (_expect(key, str).isascii() and key.isdigit()):
        raise ValueError("its pickle names a storage that is none")
    return Storage(dtype, key, _expect(size, int))


def _rebuilt(what, arguments):
    """The value of what(*arguments), for the few functions there are."""
    if what == "collections OrderedDict" and not arguments:
        return {}
    if what == PARAMETER:
        return _expect(arguments[0], Tensor)
    if what in LISTS:
        return _expect(arguments[0], list)
    if what != TENSOR:
        raise ValueError(f"its pickle calls {what.replace(' ', '.')[:80]}")
    storage, offset, shape, stride = arguments[:4]
    numbers = [offset, *_expect(shape, tuple), *_expect(stride, tuple)]
    if any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(stride) or len(shape) > 8:
        raise ValueError("its pickle describes a tensor that cannot be")
    return Tensor(_expect(storage, Storage), offset, shape, stride)


def named_tensors(value):
    """{dotted name: Tensor} of a state dict, or of a module and the modules in it. ValueError for others."""
    found, todo, visits = {}, [("", value, 0)], 0
    while todo:
        prefix, value, depth = todo.pop()
        visits += 1  # of the same module too: two in each make 2ⁿ
        if depth > DEEPEST or visits > MOST_MODULES:
            raise ValueError("its modules lie too deep, or are too many")
        inside = value.state if isinstance(value, Module) else value
        if not isinstance(inside, dict):
            raise ValueError(f"its data.pkl holds a {type(value).__name__} and no state_dict")
        for name, child in inside.items():
            if isinstance(child, Tensor):
                found[f"{prefix}{name}"] = child
            elif isinstance(child, Module):
                todo.append((f"{prefix}{name}.", child, depth + 1))
    if not found:
        raise ValueError("it holds no tensors")
    return found
