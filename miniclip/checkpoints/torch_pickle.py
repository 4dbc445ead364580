"""PyTorch's pickles, read without PyTorch and without trusting them.

A pickle is a small program for a stack machine that rebuilds objects, and it may ask for any function of
Python and call it: such a file may do anything. The machine below knows the few instructions that tensors
need and the few names in `KNOWN`, and calls nothing at all: a tensor is only written down.

    {"ln_final.weight": rebuild(storage "7", offset 0, shape (512,), stride (1,)), …}

Everything else is refused by its name. Modules of torch.jit.save, of classes `__torch__.…`, become bare holders of
attributes. What is built on the way, names included, is bounded by the bytes that the program has.

Source: the pickles that PyTorch writes (protocol 2); Python's documentation of pickletools.
"""

import pickletools
import sys
from dataclasses import dataclass, field

import numpy as np

from .untrusted import Damaged, kind_of

DEEPEST = 64  # modules within each other
BFLOAT16 = np.dtype("<u2")  # its 16 bits, for NumPy has none; no other storage has this type
NAMES = "Float Half Double BFloat16 Long Int Short Char Byte Bool".split()
CODES = "<f4   <f2  <f8    <u2      <i8  <i4 <i2   |i1  |u1  |u1".split()
STORAGES = {f"torch {name}Storage": np.dtype(code) for name, code in zip(NAMES, CODES)}
TENSOR, PARAMETER = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
LISTS = {f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor")}
KNOWN = {TENSOR, PARAMETER, "collections OrderedDict", *LISTS, *STORAGES}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# What is made by an instruction beyond its own bytes, in bytes of memory.
COSTS = {"EMPTY_LIST": 80, "EMPTY_DICT": 80, "BINFLOAT": 24, "BINPERSID": 80, "NEWOBJ": 150, "REDUCE": 120, "MARK": 16}
SIZED = ("BININT", "BININT2", "BINUNICODE", "LONG1", "GLOBAL")  # whose argument is kept
SLOT, TUPLE, ENTRY, FIRST_ENTRY = 10, 56, 100, 160  # of a list or the stack; a tuple; of a dict, more for its first
ARRAY = 300  # an array of NumPy, and its name


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


def run(program, budget):
    """What a pickle's program (bytes) builds, out of dict, list, tuple, str, numbers, Module and Tensor.

    budget: a `Budget`. Raises ValueError for an instruction that is not known here and for a program that builds
    too much, and ValueError, TypeError or LookupError for a program that makes no sense. Nothing is called.
    """
    stack, marks, memo = [], [], []

    def items():
        """What lies above the last mark."""
        start = marks.pop()
        above, stack[start:] = stack[start:], []
        return above

    for opcode, value, _ in pickletools.genops(program):
        budget.spend(SLOT + COSTS.get(opcode.name, 0) + (sys.getsizeof(value) if opcode.name in SIZED else 0))
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                if value > len(memo):
                    raise Damaged("its pickle does not number things as they come")
                memo[value : value + 1] = [stack[-1]]
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
                budget.spend(TUPLE + 8 * n)
            case "TUPLE":
                stack.append(tuple(items()))
                budget.spend(TUPLE + 8 * len(stack[-1]))
            case "APPEND" | "APPENDS":
                new = items() if opcode.name == "APPENDS" else [stack.pop()]
                _expect(stack[-1], list).extend(new)
                budget.spend(SLOT * len(new))
            case "SETITEM" | "SETITEMS":
                new = items() if opcode.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                whole = _expect(stack[-1], dict)
                budget.spend(ENTRY * len(new) // 2 + (0 if whole else FIRST_ENTRY))
                for key, thing in zip(new[::2], new[1::2], strict=True):
                    if _expect(key, (str, int)) in whole:
                        raise Damaged(f"its pickle sets {str(key)[:80]} twice")
                    whole[key] = thing
            case "GLOBAL":
                if value not in KNOWN and not value.startswith("__torch__."):
                    asked = value.replace(" ", ".")[:80]
                    raise Damaged(f"its pickle asks for {asked}, which no tensor needs; save the state_dict alone")
                stack.append(Global(value))
            case "BINPERSID":
                stack.append(_storage(*_expect(stack.pop(), tuple)))
            case "NEWOBJ":
                arguments, what = stack.pop(), _expect(stack.pop(), Global).name
                if not what.startswith("__torch__.") or arguments != ():
                    raise Damaged(f"its pickle makes an object of {what[:80]}")
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
                raise Damaged(f"its pickle uses the instruction {name}, which no tensor needs")
        if marks and len(stack) < marks[-1]:
            raise Damaged("its pickle takes what lies below a mark")
    return stack.pop()


def _expect(value, kinds):
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise Damaged(f"its pickle has a {kind_of(value)} where that makes no sense")
    return value


def _storage(kind, dtype, key, location, size):
    dtype = STORAGES.get(_expect(dtype, Global).name)
    if kind != "storage" or dtype is None or not (_expect(key, str).isascii() and key.isdigit()):
        raise Damaged("its pickle names a storage that is none")
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
        raise Damaged(f"its pickle calls {what.replace(' ', '.')[:80]}")
    storage, offset, shape, stride = arguments[:4]
    numbers = [offset, *_expect(shape, tuple), *_expect(stride, tuple)]
    if any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(stride) or len(shape) > 8:
        raise Damaged("its pickle describes a tensor that cannot be")
    return Tensor(_expect(storage, Storage), offset, shape, stride)


def named_tensors(value, budget):
    """{dotted name: Tensor} of a state dict, or of a module and the modules in it, for this `Budget`.

    ValueError for others, for two tensors of one name, and for more than the budget.
    """
    found, todo = {}, [("", value, 0)]
    while todo:
        prefix, value, depth = todo.pop()
        if depth > DEEPEST:
            raise Damaged("its modules lie too deep")
        inside = value.state if isinstance(value, Module) else value
        if not isinstance(inside, dict):
            raise Damaged(f"its data.pkl holds a {kind_of(value)} and no state_dict")
        budget.spend(ENTRY + SLOT * len(inside))
        for name, child in inside.items():
            if not isinstance(child, (Tensor, Module)):
                continue
            budget.spend(ARRAY + ENTRY + len(prefix) + sys.getsizeof(name))  # for a module may be met many times
            name = f"{prefix}{name}"
            if isinstance(child, Module):
                todo.append((f"{name}.", child, depth + 1))
            elif name in found:
                raise Damaged(f"it holds {name[:80]} twice")
            else:
                found[name] = child
    if not found:
        raise Damaged("it holds no tensors")
    return found
