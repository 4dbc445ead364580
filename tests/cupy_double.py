"""A double of CuPy 14 for machines without a graphics card: NumPy inside, and as strict as CuPy outside.

    with cupy_double() as card:                 # "cupy" and "cupyx" in sys.modules
        import cupy
        with card.counting() as counts:
            y = layer(cupy.asarray(x))
        assert not counts.syncs                 # a list of "file:line what"

It proves that code has no NumPy array where CuPy wants its own, uses only what CuPy 14 has (cupy_names.txt, taken from
an installed one), waits for the card only where it says so, reads nothing that was never written, stays within a
card's memory, and orders its streams by events. What CuPy has and this double has not raises NotImplementedError
with its name. It is a double and not a GPU: it proves nothing about speed, rounding on a card, or CuPy's own faults.

An array is a box around a NumPy array; boxes that share memory share one `Memory`, which knows where it was last read
and written. Work is done at once, on whichever stream it is launched; what is checked is whether a card, which may do
it much later, has been told the order. Order is kept by vector clocks, for each block of memory as a whole.
"""

import contextlib
import functools
import inspect
import sys
import threading
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

HERE = Path(__file__)
DTYPES = "?bhilqBHILQefdFD"
SCALARS = bool, int, float, complex, np.generic


class Race(AssertionError):
    """Two streams, or the host and a stream, use the same memory and no event says which comes first."""


class Undefined(AssertionError):
    """CuPy would answer, but not always the same."""


# ------------------------------------------------------------------------------------------ what CuPy 14 has

def read_names(path=HERE.with_name("cupy_names.txt")):
    """{namespace: {name: None, or its parameters as "a, axis=, *, copy=", or a ufunc's types as ["ff->f", …]}}"""
    spaces, names = {}, None
    for word in path.read_text(encoding="utf-8").split():
        if word.startswith("["):
            names = spaces[word.strip("[]")] = {}
            continue
        name, bracket, parameters = word.partition("(")
        if bracket:
            names[name] = parameters[:-1].replace(",", ", ")
        else:
            name, colon, types = word.partition(":")
            names[name] = types.split(",") if colon else None
    return spaces


def survey(cupy):
    """The same, of an installed CuPy, with ml_dtypes beside it for bfloat16; no graphics card is needed."""
    import cupyx
    spaces = {"version": {cupy.__version__: None}}
    for name in ("cupy", "cupy.random", "cupy.linalg", "cupy.lib.stride_tricks", "cupy.cuda", "cupy.cuda.memory",
                 "cupy.cuda.runtime", "cupyx"):
        module = functools.reduce(getattr, name.split(".")[1:], cupyx if name == "cupyx" else cupy)
        spaces[name] = {key: _parameters(getattr(module, key)) for key in dir(module) if key[0] != "_"}
    kinds = {"ndarray": cupy.ndarray, "ufunc": cupy.ufunc, "RawModule": cupy.RawModule, "RawKernel": cupy.RawKernel,
             "random.Generator": cupy.random.Generator, "cuda.MemoryPointer": cupy.cuda.MemoryPointer}
    for name in ("Stream", "Event", "Device", "MemoryPool", "PinnedMemoryPool"):
        kinds[f"cuda.{name}"] = getattr(cupy.cuda, name)
    for name, kind in kinds.items():
        spaces[f"cupy.{name}"] = {key: _parameters(getattr(kind, key)) for key in dir(kind) if key[0] != "_"}
    return spaces


def _parameters(thing):
    if type(thing).__name__ == "ufunc":
        return thing.types
    if not callable(thing) or isinstance(thing, type | np.ufunc):
        return None
    try:
        signature = inspect.signature(thing)
    except (ValueError, TypeError):                     # compiled: the first line of its docstring tells
        line = (thing.__doc__ or "").strip().split("\n")[0]
        inner = line.partition("(")[2].rpartition(")")[0]
        if not line.partition("(")[2]:
            return None
        words = [part.split("=")[0].split()[-1] + "=" * ("=" in part) for part in inner.split(",") if part.strip()]
        return ", ".join(words)
    text, after = [], False
    for p in signature.parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            text.append(f"*{p.name}")
            after = True
        elif p.kind is p.VAR_KEYWORD:
            text.append(f"**{p.name}")
        else:
            if p.kind is p.KEYWORD_ONLY and not after:
                text.append("*")
                after = True
            text.append(p.name + "=" * (p.default is not p.empty))
    return ", ".join(text)


def write_names(spaces, width=118):
    """The text of cupy_names.txt."""
    lines = []
    for space, names in spaces.items():
        lines += ["", f"[{space}]"]
        for name, what in names.items():
            word = name + (f"({what.replace(' ', '')})" if isinstance(what, str)
                           else ":" + ",".join(what) if what else "")
            if len(lines[-1]) + len(word) >= width or lines[-1].startswith("["):
                lines.append(word)
            else:
                lines[-1] += " " + word
    return "\n".join(lines[1:]) + "\n"


NAMES = read_names() if HERE.with_name("cupy_names.txt").exists() else {}


@functools.cache
def _signature(space, name):
    parameters = NAMES.get(space, {}).get(name)
    if not isinstance(parameters, str):
        return None
    parameters = parameters.removeprefix("self, ") if parameters != "self" else ""
    return inspect.signature(eval(f"lambda {parameters.replace('=', '=None')}: 0"))


def _must_fit(space, name, args, options):
    """TypeError where CuPy's function has no such parameters."""
    signature = _signature(space, name)
    if signature is not None:
        try:
            signature.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{space}.{name}: {error}; CuPy's has {', '.join(signature.parameters)}.") from None


def _missing(space, name):
    """What is raised for a name that is not here: louder where CuPy has it."""
    if name in NAMES.get(space, {}):
        return NotImplementedError(f"CuPy has {space}.{name}, this double has not: write it in tests/cupy_double.py.")
    return AttributeError(f"CuPy 14 has no {space}.{name}.")


# ------------------------------------------------------------------------------------------ the card

class Card:
    """All that one card knows: its memory, streams, and what the host waited for.

    memory: bytes that it has; available: whether cupy.cuda.is_available().
    """

    def __init__(self, memory=8 << 30, available=True, capability="90"):
        self.memory, self.available, self.capability = memory, available, capability
        self.used = self.cached = self.peak = 0
        self.limit, self.faults, self.counters, self.lock = 0, [], [], threading.RLock()
        self.host, self.streams, self.current = {}, [], threading.local()
        self.compute_types, self.blocks = {}, weakref.WeakSet()
        self.null = Stream(null=True, of=self)

    @contextlib.contextmanager
    def counting(self):
        """Yields counts that go on while inside: .syncs and .uploads, lists of "file:line what", and .launches.

        A wait that is not the main thread's says so: "file:line what, in the thread prefetch_0".
        """
        counts = SimpleNamespace(syncs=[], uploads=[], launches=0)
        self.counters.append(counts)
        try:
            yield counts
        finally:
            self.counters.remove(counts)

    def note(self, kind, what):
        if self.counters:
            thread = threading.current_thread()
            place = f"{_caller()} {what}"
            if thread is not threading.main_thread():
                place += f", in the thread {thread.name}"
            for counts in self.counters:
                getattr(counts, kind).append(place)

    def stream(self):
        return getattr(self.current, "stream", self.null)

    def allocate(self, size):
        """As CuPy's pool: freed blocks are kept for the next, and given back when the card is full."""
        if not self.available:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        with self.lock:
            limit = min(self.memory, self.limit or self.memory)
            if self.used + size > limit:
                raise OutOfMemoryError(size, self.used + self.cached, self.limit)
            if self.cached >= size:
                self.cached -= size
            elif self.used + self.cached + size > limit:
                self.cached = 0
            self.used += size
            self.peak = max(self.peak, self.used)

    def free(self, root, size, uses, home):
        """A block's last box is gone: its pool may hand it out again on the stream where it was made."""
        with self.lock:
            self.used -= size
            self.cached += size
            for stream, count in uses.items():
                if max(home.clock.get(stream, 0), self.host.get(stream, 0)) < count:
                    self.faults.append(f"memory of {size} bytes was let go while {stream.name} may still use it")
        if root.flags.writeable and root.flags.c_contiguous:
            root.reshape(-1).view(np.uint8)[:] = 0xFF                   # NaN: whoever still reads it shall see

    def learn(self, clock):
        """The host has waited until a clock: copies up to then are done, and what they read may be written again."""
        merge(self.host, clock)
        for stream in self.streams:
            while stream.pending and stream.pending[0][0] <= self.host.get(stream, 0):
                _, pinned, was = stream.pending.pop(0)
                if pinned.tobytes() != was:
                    raise Race("pinned memory was written to before its copy to the card was known to be done.")

    def block_at(self, pointer):
        """The block of memory that an address is in."""
        for memory in list(self.blocks):
            if memory.ptr <= pointer < memory.ptr + max(1, memory.root.nbytes):
                return memory
        raise Undefined(f"{_caller()}: {pointer} is no address in the card's memory.")

    def check(self):
        if self.faults:
            faults, self.faults = self.faults, []
            raise Race("; ".join(faults))


def _caller():
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename in (__file__, contextlib.__file__, functools.__file__):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


class Memory:
    """One block: the NumPy array that owns it, and who has used it.  `uses`: {stream: its count at the last use}."""

    def __init__(self, root):
        self.card, self.root, self.home = card(), root, card().stream()
        self.ptr, self.size, self.device_id = root.__array_interface__["data"][0], -(-root.nbytes // 512) * 512, 0
        self.card.allocate(self.size)
        self.card.blocks.add(self)
        # What had this memory before may still be at work on the stream that it comes from.
        self.written, self.uses = (self.home, self.home.tick()), {}
        weakref.finalize(self, self.card.free, root, self.size, self.uses, self.home).atexit = False

    def holds(self, array):
        first, end = array.__array_interface__["data"][0], self.ptr + self.root.nbytes
        return self.ptr <= first < end or first == end and not array.size

    def must_be_ready(self, stream, write):
        others = {**self.uses, **dict([self.written])} if write else dict([self.written])
        for other, count in others.items():
            if stream.clock.get(other, 0) < count:
                raise Race(f"{_caller()} {'writes' if write else 'reads'} on {stream.name} what {other.name} may still "
                           "be at work on: record an event there and wait for it here.")

    def use(self, stream, write):
        self.uses[stream] = stream.clock[stream]
        if write:
            self.written = stream, stream.clock[stream]


def launch(reads=(), writes=(), stream=None):
    """A piece of work on the current stream: Race where what it uses is not ready."""
    card().check()
    stream = stream or card().stream()
    stream.tick()
    for counts in card().counters:
        counts.launches += 1
    used = [*((memory, False) for memory in reads), *((memory, True) for memory in writes)]
    for memory, write in used:
        memory.must_be_ready(stream, write)
    for memory, write in used:                          # none is, where one of them was not ready
        memory.use(stream, write)


class _WithNull(type):
    null = property(lambda cls: card().null)


class Stream(metaclass=_WithNull):
    """Work in order. `clock`: {stream: how far this one has come to know it}."""

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None, *, of=None):
        self.card, self.null_, self.non_blocking = of or card(), null, non_blocking
        self.clock, self.before, self.pending = {self: 0}, [], []
        self.name = "the main stream" if null else f"stream {len(self.card.streams)}"
        self.ptr = 0 if null else id(self)
        self.card.streams.append(self)

    def tick(self):
        merge(self.clock, self.card.host)
        if not self.non_blocking:                       # the main stream and the blocking ones wait for each other
            for other in self.card.streams:
                if other is not self and not other.non_blocking and (self.null_ or other.null_):
                    merge(self.clock, other.clock)
        self.clock[self] = self.clock.get(self, 0) + 1
        return self.clock[self]

    def record(self, event=None):
        event = event or Event()
        self.tick()
        event.clock = dict(self.clock)
        return event

    def wait_event(self, event):
        merge(self.clock, event.clock)

    def synchronize(self):
        self.card.note("syncs", "Stream.synchronize")
        self.wait_for_it()

    def wait_for_it(self):
        self.tick()
        self.card.learn(self.clock)

    def use(self):
        self.card.current.stream = self
        return self

    def __enter__(self):
        self.before.append(self.card.stream())
        return self.use()

    def __exit__(self, *error):
        self.before.pop().use()

    done = property(lambda self: all(self.card.host.get(s, 0) >= n for s, n in self.clock.items()))
    is_non_blocking = property(lambda self: self.non_blocking)
    __getattr__ = lambda self, name: _raise(_missing("cupy.cuda.Stream", name))


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.clock = {}

    def record(self, stream=None):
        (stream or card().stream()).record(self)

    def synchronize(self):
        card().note("syncs", "Event.synchronize")
        card().learn(self.clock)

    done = property(lambda self: all(card().host.get(s, 0) >= n for s, n in self.clock.items()))
    __getattr__ = lambda self, name: _raise(_missing("cupy.cuda.Event", name))


def merge(clock, other):
    for stream, count in list(other.items()):
        if clock.get(stream, 0) < count:
            clock[stream] = count


def _raise(error):
    raise error


class OutOfMemoryError(MemoryError):
    __module__ = "cupy.cuda.memory"

    def __init__(self, size, total, limit=0):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
                         f"{f', limit set to: {limit:,} bytes' * bool(limit)}).")


class CUDARuntimeError(RuntimeError):
    __module__ = "cupy_backends.cuda.api.runtime"


# ------------------------------------------------------------------------------------------ boxes

def unbox(x):
    """What NumPy computes with for an argument of a CuPy function; TypeError for what CuPy does not take."""
    if isinstance(x, ndarray):
        return x._array
    if isinstance(x, SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def inner(x):
    """An argument of any kind with its boxes opened; TypeError where a NumPy array is among them."""
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, (list, tuple)):
        return type(x)(map(inner, x))
    return x._array if isinstance(x, ndarray) else x


def boxes_in(*values):
    for x in values:
        if isinstance(x, ndarray):
            yield x
        elif isinstance(x, (list, tuple)):
            yield from boxes_in(*x)
        elif isinstance(x, dict):
            yield from boxes_in(*x.values())


def box(result, *sources):
    """NumPy's result in a box: a view where it lies in the memory of a source, else in memory of its own."""
    if isinstance(result, (list, tuple)):
        return type(result)(box(part, *sources) for part in result)
    result = np.asarray(result)
    for source in sources:
        if source._memory.holds(result):
            return ndarray._of(result, source._memory, source if source._base is None else source._base)
    root = result
    while isinstance(root.base, np.ndarray):
        root = root.base
    return ndarray._of(result, Memory(root), None)


def poisoned(shape, dtype, order="C"):
    array = np.empty(shape, dtype, order)
    array.fill({"b": True, "i": -7, "u": 251}.get(array.dtype.kind, np.nan))
    if array.dtype.kind == "i":
        array.fill(np.iinfo(array.dtype).min + 7)
    return array


def compute(space, name, f, args, options):
    """f of NumPy on what is in the boxes: CuPy's parameters only, no NumPy arrays; `out` is CuPy's."""
    _must_fit(space, name, args, options)
    out = options.get("out")
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"{space}.{name}: out is {type(out).__name__}, not a cupy.ndarray.")
    given = list(boxes_in(args, options))
    if out is not None:
        launch({x._memory for x in given}, [out._memory])
    with np.errstate(all="ignore"):
        result = f(*map(inner, args), **{key: inner(value) for key, value in options.items()})
    if out is not None:
        return out
    result = box(result, *given)
    if any(all(x._memory is not y._memory for y in given) for x in boxes_in(result)):
        launch({x._memory for x in given})              # no view of what was given: a kernel has run
    return result


class ufunc:
    """One of CuPy's: NumPy's, for the types that CuPy has."""

    __module__ = "cupy._core._kernel"

    def __init__(self, name, types):
        self.__name__, self.types, self._numpy = name, types, getattr(np, name)
        self.nin, self.nout = self._numpy.nin, self._numpy.nout

    def __call__(self, *args, out=None, casting="same_kind", dtype=None):
        if len(args) == self.nin + 1 and out is None:
            *args, out = args
        if len(args) != self.nin:
            raise TypeError(f"{self.__name__}() takes {self.nin} arguments and perhaps out, not {len(args)}.")
        if out is not None and not isinstance(out, ndarray):
            raise TypeError("return arrays must be of ArrayType" if not isinstance(out, tuple) else
                            f"out of cupy.{self.__name__} must be an array, not a tuple.")
        values = [unbox(x) for x in args]
        self._must_have(values)
        if out is not None:
            shape = np.broadcast_shapes(*map(np.shape, values))
            if shape != out.shape:
                raise ValueError(f"Out shape is mismatched: {out.shape} for {shape}.")
        launch({x._memory for x in args if isinstance(x, ndarray)}, [] if out is None else [out._memory])
        with np.errstate(all="ignore"):
            result = self._numpy(*values, out=None if out is None else out._array, casting=casting, dtype=dtype)
        return box(result) if out is None else out

    def _must_have(self, values):
        strong = [x.dtype for x in values if isinstance(x, (np.ndarray, np.generic))]
        if strong and not any(all(_fits(dtype, types[0]) for dtype in strong) for types in self.types):
            raise TypeError(f"Wrong type {[dtype.name for dtype in strong]} of arguments for cupy_{self.__name__}")

    def at(self, a, indices, b=None):
        if self.__name__ != "add":
            raise NotImplementedError(f"this double has no cupy.{self.__name__}.at.")
        if not isinstance(a, ndarray):
            raise TypeError("the first argument of ufunc.at must be a cupy.ndarray.")
        a.scatter_add(indices, b)

    def outer(self, a, b):
        return self(a[(..., *[None] * b.ndim)], b)

    def __getattr__(self, name):
        raise _missing("cupy.ufunc", name)


def _fits(dtype, char):
    """Whether a dtype goes into a ufunc's type; E is bfloat16."""
    return dtype.char == char or char != "E" and np.can_cast(dtype, char)


class Flags:
    """CuPy's have three names, and nothing is read-only."""

    def __init__(self, x):
        flags = x._array.flags
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, x._base is None
        self.forc, self.fnc = flags.forc, flags.fnc

    def __getitem__(self, name):
        return {"C_CONTIGUOUS": self.c_contiguous, "F_CONTIGUOUS": self.f_contiguous, "OWNDATA": self.owndata}[name]


class ndarray:
    """A box. cupy.ndarray(shape, dtype) is uninitialised memory, here poisoned."""

    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("this double has no cupy.ndarray(memptr=, strides=).")
        array = poisoned(shape, _dtype(dtype), order)
        self._array, self._memory, self._base = array, Memory(array), None

    @classmethod
    def _of(cls, array, memory, base):
        x = object.__new__(cls)
        x._array, x._memory, x._base = array, memory, base
        return x

    def __getattr__(self, name):
        if name.startswith("__") or name in ("_array", "_memory", "_base"):
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        raise _missing("cupy.ndarray", name)

    shape = property(lambda self: self._array.shape,
                     lambda self, shape: _raise(NotImplementedError("this double has no assignment to shape.")))
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    dtype = property(lambda self: self._array.dtype)
    strides = property(lambda self: self._array.strides)
    itemsize = property(lambda self: self._array.itemsize)
    nbytes = property(lambda self: self._array.nbytes)
    flags = property(Flags)
    base = property(lambda self: self._base)
    device = property(lambda self: Device(0))
    T = property(lambda self: box(self._array.T, self) if self.ndim > 1 else self)
    mT = property(lambda self: box(self._array.mT, self))
    real = property(lambda self: box(self._array.real, self))
    imag = property(lambda self: box(self._array.imag, self))

    @property
    def data(self):
        pointer = self._array.__array_interface__["data"][0]
        return SimpleNamespace(ptr=pointer, mem=self._memory, device_id=0, device=Device(0))

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "version": 3,
                "strides": None if self._array.flags.c_contiguous else self.strides, "data": (self.data.ptr, False),
                "stream": card().stream().ptr or 1}

    # to the host: each of these waits for the card

    def get(self, stream=None, order="C", out=None, blocking=True):
        if out is not None and (out.dtype, out.shape) != (self.dtype, self.shape):
            raise ValueError(f"{self.dtype} {self.shape} cannot be copied to {out.dtype} {out.shape}.")
        stream = stream or card().stream()
        launch([self._memory], stream=stream)
        if blocking:
            card().note("syncs", "get")
            stream.wait_for_it()
        elif not (out is not None and is_pinned(out)):
            raise NotImplementedError("this double copies to the host without waiting only into pinned memory.")
        if out is None:
            return self._array.copy("C" if order == "A" else order)
        out[...] = self._array
        return out

    def _read(self, what, f, *args):
        launch([self._memory])
        card().note("syncs", what)
        card().stream().wait_for_it()
        return f(self._array, *args)

    def item(self):
        return self._read("item", np.ndarray.item)

    def tolist(self):
        return self._read("tolist", np.ndarray.tolist)

    def tobytes(self, order="C"):
        return self._read("tobytes", np.ndarray.tobytes, order)

    __float__ = lambda self: self._read("float", float)
    __int__ = lambda self: self._read("int", int)
    __bool__ = lambda self: self._read("bool", bool)
    __complex__ = lambda self: self._read("complex", complex)
    __repr__ = lambda self: self._read("repr", repr)
    __str__ = lambda self: self._read("str", str)
    __format__ = lambda self, spec: self._read("format", format, spec)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. "
                        "Please use `.get()` to construct a NumPy array explicitly.")

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def nonzero(self):
        card().note("syncs", "nonzero")
        return compute("", "nonzero", np.nonzero, (self,), {})

    # on the card

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._array.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        launch(writes=[self._memory], stream=stream)
        stream = stream or card().stream()
        if is_pinned(arr) and not stream.null_:
            card().note("uploads", "set")
            stream.pending.append((stream.clock[stream], arr, arr.tobytes()))
        else:                                           # pageable memory, or the main stream: the host waits
            card().note("syncs", "set")
            stream.wait_for_it()
        self._array[...] = arr

    def fill(self, value):
        self[...] = value

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        if self._array.astype(_dtype(dtype), order, copy=False) is self._array and not copy:
            return self
        return compute("", "astype", np.ndarray.astype, (self, dtype), {"order": order})

    def copy(self, order="C"):
        return compute("cupy", "copy", np.copy, (self,), {"order": order})

    __copy__ = copy

    def __deepcopy__(self, memo):
        return self.copy()

    def view(self, dtype=None, type=None):
        return box(self._array.view() if dtype is None else self._array.view(dtype), self)

    def take(self, indices, axis=None, out=None):
        if out is not None:
            raise NotImplementedError("this double has no take(out=).")
        flat = self.ravel() if axis is None else self
        indices = indices if isinstance(indices, ndarray) else upload(np.asarray(indices))
        return flat[(slice(None),) * (0 if axis is None else axis % self.ndim) + (indices,)]

    def scatter_add(self, slices, value):
        value = value if isinstance(value, (ndarray, *SCALARS)) else upload(np.asarray(value))
        key, given, advanced = self._key(slices)
        if advanced and self.dtype not in (np.int32, np.float16, np.float32, np.float64, np.uint32, np.uint64):
            raise TypeError("scatter_add only supports int32, float16, float32, float64, uint32, uint64, as data type")
        launch({x._memory for x in boxes_in(given, value)}, [self._memory])
        with np.errstate(all="ignore"):
            np.add.at(self._array, key, np.asarray(unbox(value)).astype(self.dtype))

    def __getitem__(self, slices):
        key, given, advanced = self._key(slices)
        if advanced:
            launch({x._memory for x in (self, *given)})
        return box(self._array[key], self)

    def __setitem__(self, slices, value):
        key, given, advanced = self._key(slices)
        if not advanced and isinstance(value, np.ndarray):
            if value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value.item()
        if advanced and not isinstance(value, (ndarray, *SCALARS)):
            value = upload(np.asarray(value))           # CuPy sends it: no error, but a copy
        number = unbox(value)
        if advanced and np.size(number) > 1:
            places = np.arange(self.size).reshape(self.shape)[key]
            if len(np.unique(places)) < places.size:
                raise Undefined("an index stands twice in what is assigned to: which value stays is not defined.")
        launch({x._memory for x in boxes_in(given, value)}, [self._memory])
        with np.errstate(all="ignore"):
            self._array[key] = number

    def _key(self, slices):
        """An index as NumPy takes it, with integers wrapped round as CuPy does; its boxes; whether it copies."""
        given, key, axis, advanced = [], [], 0, False
        slices = slices if isinstance(slices, tuple) else (slices,)
        parts = []
        for part in slices:
            if isinstance(part, (bool, np.bool_)):
                raise NotImplementedError("this double has no index that is a bool.")
            if isinstance(part, (list, tuple, np.ndarray)):
                part = upload(np.asarray(part if len(part) else np.zeros(0, np.int32)))
            parts.append(part)
        taken = sum(0 if p is None or p is ... else p.ndim if isinstance(p, ndarray) and p.dtype == bool else 1
                    for p in parts)
        if sum(p is ... for p in parts) > 1 or taken > self.ndim:
            raise IndexError(f"too many indices for array: array is {self.ndim}-dimensional, but {taken} were indexed")
        for part in parts:
            if isinstance(part, ndarray):
                advanced = True
                given.append(part)
                if part.dtype == bool:
                    card().note("syncs", "a boolean mask")
                    axis += part.ndim
                    part = part._array
                elif part.dtype.kind not in "iu":
                    raise IndexError("arrays used as indices must be of integer or boolean type. "
                                     f"(actual: {part.dtype})")
                else:
                    size, axis = self.shape[axis], axis + 1
                    if not size and part.size:
                        raise IndexError("cannot do a non-empty take from an empty axes.")
                    part = part._array.astype(np.int64) % max(1, size)
            elif part is ...:
                axis += self.ndim - taken
            elif part is not None:
                axis += 1
            key.append(part)
        if not any(part is ... for part in parts):
            key.append(...)
        return tuple(key), given, advanced


METHODS = """all any argmax argmin argsort clip conj conjugate cumprod cumsum diagonal dot flatten max mean min prod
    ravel repeat reshape round squeeze std sum swapaxes trace transpose var"""
for _name in METHODS.split():
    setattr(ndarray, _name, functools.partialmethod(
        lambda self, name, *args, **options: _method(self, name, args, options), _name))
BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
          "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
          "lshift": "left_shift", "rshift": "right_shift"}
COMPARE = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}


def _method(x, name, args, options):
    _must_fit("cupy.ndarray", name, args, options)
    return compute("", name, getattr(np.ndarray, name), (x, *args), options)


def _operators():
    def left(name):
        return lambda self, other: UFUNCS[name](self, other)

    def right(name):
        return lambda self, other: UFUNCS[name](other, self)

    def here(name):
        return lambda self, other: UFUNCS[name](self, other, self)

    for short, name in BINARY.items():
        setattr(ndarray, f"__{short}__", left(name))
        setattr(ndarray, f"__r{short}__", right(name))
        setattr(ndarray, f"__i{short}__", here(name))
    for short, name in COMPARE.items():
        setattr(ndarray, f"__{short}__", left(name))
    for short, name in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():
        setattr(ndarray, f"__{short}__", lambda self, name=name: UFUNCS[name](self))
    ndarray.__matmul__ = lambda self, other: matmul(self, other)
    ndarray.__rmatmul__ = lambda self, other: matmul(other, self)


def _array_ufunc(self, of_numpy, method, *args, **options):
    """np.exp(box) and NumPy array + box: what NumPy passes on, as CuPy takes it."""
    if isinstance(options.get("out"), tuple):
        options["out"], = options["out"]
    if method != "__call__":
        return NotImplemented
    return getattr(CUPY, of_numpy.__name__)(*args, **options)


def _array_function(self, f, types, args, options):
    """np.concatenate([box]): CuPy's function of that name."""
    space = functools.reduce(getattr, f.__module__.split(".")[1:], CUPY)
    return getattr(space, f.__name__)(*args, **options)


ndarray.__array_ufunc__, ndarray.__array_function__ = _array_ufunc, _array_function


# ------------------------------------------------------------------------------------------ functions

def _dtype(dtype):
    dtype = np.dtype(dtype)
    if dtype.char not in DTYPES and dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def upload(x, blocking=False):
    """A NumPy array -> a box. CuPy copies through pinned memory and does not wait, unless it is asked to."""
    _dtype(x.dtype)
    result = box(np.array(x, order="K"))
    launch()
    if blocking:
        card().note("syncs", "asarray(blocking=True)")
    elif x.ndim:                                        # a single number goes as an argument of a kernel
        card().note("uploads", "asarray")
    return result


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    """From CuPy, NumPy, or Python."""
    if subok:
        raise NotImplementedError
    if isinstance(obj, ndarray):
        x = obj.astype(obj.dtype if dtype is None else dtype, order=order or "K", copy=bool(copy))
        if copy is False and x is not obj:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
    elif any(True for _ in boxes_in(obj)):
        parts = [array(part) if isinstance(part, (list, tuple)) else part for part in obj]
        if not all(isinstance(p, ndarray) and (p.shape, p.dtype) == (parts[0].shape, parts[0].dtype) for p in parts):
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")
        x = CUPY.stack(parts)
        x = x if dtype is None else x.astype(dtype, copy=False)
    elif copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    else:
        # From a NumPy array, the order "K" and None are C.
        order = "C" if order in ("K", None) else order
        x = upload(np.array(obj, None if dtype is None else _dtype(dtype), order=order), blocking)
    return x if x.ndim >= ndmin else x.reshape((1,) * (ndmin - x.ndim) + x.shape)


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, copy, order, blocking=blocking)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a, order=order)


def ascontiguousarray(a, dtype=None):
    """a itself where it is so already."""
    if not isinstance(a, ndarray):
        return array(a, dtype, order="C")
    a = a.astype(a.dtype if dtype is None else dtype, order="C", copy=False)
    return a if a.ndim else a.reshape(1)


def empty(shape, dtype=float, order="C"):
    """Filled with what must not be read."""
    return ndarray(shape, dtype, order=order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    like = np.empty_like(prototype._array, dtype, order, shape=shape)
    like[...] = poisoned((), like.dtype)
    return box(like)


def where(condition, x=None, y=None):
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return condition.nonzero()
    if not isinstance(condition, ndarray):
        raise TypeError(f"Unsupported type {type(condition)}")
    return compute("cupy", "where", np.where, (condition, _number(x), _number(y)), {})


def _number(x):
    unbox(x)
    return x


def matmul(*args, out=None, casting="same_kind", dtype=None, order="K"):
    """Of arrays only, of at least one axis each; out may be any view."""
    if len(args) != 2 or not all(isinstance(x, ndarray) for x in args):
        raise TypeError(f"matmul takes two cupy.ndarrays, not {[type(x) for x in args]}.")
    if not all(x.ndim for x in args):
        raise ValueError("Scalar operands are not allowed, use '*' instead")
    if dtype is not None:
        raise NotImplementedError("this double has no matmul(dtype=).")
    return compute("cupy", "matmul", np.matmul, args, {} if out is None else {"out": out, "casting": casting})


def _of_arrays(name):
    """concatenate and its like take CuPy arrays, and no numbers among them."""
    def f(tup, *args, **options):
        if isinstance(tup, ndarray) or not all(isinstance(x, ndarray) for x in tup):
            raise TypeError("Only cupy arrays can be concatenated")
        return compute("cupy", name, getattr(np, name), (list(tup), *args), options)

    return f


def _waiting(name):
    def f(*args, **options):
        card().note("syncs", name)
        return compute("cupy", name, getattr(np, name), args, options)

    return f


def _like_numpy(space, name, home=np):
    """NumPy's function, for arrays: CuPy takes no lists, and no numbers for arrays."""
    def f(*args, **options):
        if args and not isinstance(args[0], ndarray):
            raise TypeError(f"{space}.{name}: Unsupported type {type(args[0])}")
        return compute(space, name, getattr(home, name), args, options)

    return f


def _making(name):
    """A function that makes an array from numbers of the host."""
    def f(*args, **options):
        if any(True for _ in boxes_in(args, options)):
            raise NotImplementedError(f"this double has no cupy.{name} of CuPy arrays.")
        if options.get("dtype") is not None:
            _dtype(options["dtype"])
        return compute("cupy", name, getattr(np, name), args, options)

    return f


def as_strided(x, shape=None, strides=None):
    """CuPy does not look whether such a view leaves the array's memory: this does."""
    shape, strides = (x.shape if shape is None else shape), (x.strides if strides is None else strides)
    view = np.lib.stride_tricks.as_strided(x._array, shape, strides)
    low, high = np.lib.array_utils.byte_bounds(view)
    if view.size and not x._memory.ptr <= low <= high <= x._memory.ptr + x._memory.root.nbytes:
        raise Undefined(f"a view of {shape}, {strides} leaves the memory of its array.")
    return ndarray._of(view, x._memory, x if x._base is None else x._base)


def get_array_module(*args):
    return CUPY if any(isinstance(x, ndarray) for x in args) else np


class RawModule:
    """CUDA code, run on the processor by cuda_on_cpu; a test without g++ is skipped."""

    def __init__(self, code=None, *, path=None, options=(), backend="nvrtc", translate_cucomplex=False,
                 enable_cooperative_groups=False, name_expressions=None, jitify=None):
        if code is None or not isinstance(options, tuple) or not name_expressions:
            raise TypeError("RawModule wants code, options that are a tuple, and name_expressions for templates.")
        self.arguments, self.names = (code, tuple(name_expressions), options), tuple(name_expressions)

    def get_function(self, name):
        if name not in self.names:
            raise CUDARuntimeError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return functools.partial(self._run, name)

    def _run(self, name, grid, block, args, *, shared_mem=0):
        import pytest
        on_cpu = pytest.importorskip("cuda_on_cpu")
        if on_cpu.compiler() is None:
            pytest.skip("the kernels' double needs g++")
        for x in args:
            if isinstance(x, (np.ndarray, float, complex)) and not isinstance(x, np.generic):
                raise TypeError(f"{name}: a {type(x).__name__} as a kernel's argument is not what it looks like; "
                                "pass a CuPy array or a NumPy scalar of the parameter's size.")
        given = {x._memory for x in boxes_in(tuple(args))}
        launch(given, given)
        on_cpu.compile_cuda(*self.arguments).get_function(name)(grid, block, tuple(args), shared_mem)


# ------------------------------------------------------------------------------------------ cupy.cuda

class PinnedMemory(bytearray):
    """Host memory that a card can read by itself."""

    ptr = property(lambda self: np.frombuffer(self, np.uint8).__array_interface__["data"][0])
    size = bytearray.__len__


def is_pinned(x):
    while x is not None and not isinstance(x, PinnedMemory):
        x = x.obj if isinstance(x, memoryview) else getattr(x, "base", None)
    return x is not None


def empty_pinned(shape, dtype=float, order="C"):
    count = int(np.prod(shape, dtype=np.int64))
    memory = PinnedMemory(max(1, count) * np.dtype(dtype).itemsize)
    pinned = np.frombuffer(memory, dtype, count).reshape(shape, order=order)
    pinned[...] = poisoned((), dtype)
    return pinned


def zeros_pinned(shape, dtype=float, order="C"):
    pinned = empty_pinned(shape, dtype, order)
    pinned[...] = 0
    return pinned


class Device:
    id = 0
    compute_capability = property(lambda self: card().capability)
    mem_info = property(lambda self: mem_get_info())
    __enter__ = use = lambda self: self
    __exit__ = lambda *_: None
    __eq__ = lambda self, other: isinstance(other, Device)
    __hash__ = lambda self: 0
    __int__ = lambda self: 0
    __getattr__ = lambda self, name: _raise(_missing("cupy.cuda.Device", name))

    def __init__(self, device=None):
        if device not in (None, 0):
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def synchronize(self):
        device_synchronize("Device.synchronize")


def device_synchronize(what="deviceSynchronize"):
    card().note("syncs", what)
    for stream in card().streams:
        stream.wait_for_it()


def mem_get_info():
    return card().memory - card().used - card().cached, card().memory


class MemoryPool:
    used_bytes = lambda self: card().used
    free_bytes = lambda self: card().cached
    total_bytes = lambda self: card().used + card().cached
    get_limit = lambda self: card().limit
    __getattr__ = lambda self, name: _raise(_missing("cupy.cuda.MemoryPool", name))

    def free_all_blocks(self, stream=None):
        card().cached = 0

    def set_limit(self, size=None, fraction=None):
        card().limit = int(card().memory * fraction) if size is None else size


def device_properties(device):
    return {"name": b"a double, not a GPU", "totalGlobalMem": card().memory, "multiProcessorCount": 132,
            "major": int(card().capability[:-1]), "minor": int(card().capability[-1])}


class Blas:
    """cupy.cuda.cublas, from cublas_double. A, B and C must lie in the card's memory, and are used on a stream."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        from cublas_double import Cublas
        known = getattr(Cublas(), name)
        if not callable(known):
            return known

        def call(*args):
            given = inspect.signature(known).bind(*args).arguments
            a, b, c = (card().block_at(given[key]) for key in "ABC")
            launch([a, b], [c])
            getattr(Cublas([a.root, b.root, c.root]), name)(*args)

        return call


class Module(ModuleType):
    """A module that says of each name that it lacks whether CuPy has it."""

    def __init__(self, name, **names):
        super().__init__(name, "A double, not a GPU.")
        self.__dict__.update(names)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise _missing(self.__name__, name)


# ------------------------------------------------------------------------------------------ the modules

UFUNCS = {name: ufunc(name, types) for name, types in NAMES.get("cupy", {}).items()
          if isinstance(types, list) and getattr(getattr(np, name, None), "nout", 0) == 1}
_operators()
SAME = """bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 floating
    integer inexact number dtype finfo iinfo inf nan pi e newaxis issubdtype promote_types can_cast"""
MAKING = "arange eye full identity linspace ones tri zeros"
LIKE_NUMPY = """all any amax amin argmax argmin argsort allclose array_equal array_split atleast_1d atleast_2d
    broadcast_to clip copy count_nonzero cumprod cumsum diag diagonal dot expand_dims flip full_like isclose max
    mean min moveaxis nan_to_num ones_like outer pad prod ravel repeat reshape roll round sort split squeeze std sum
    swapaxes take_along_axis tensordot tile trace transpose tril triu var vdot zeros_like"""
CONSTANTS = {"CUDA_R_32F": 0, "CUDA_R_64F": 1, "CUDA_R_16F": 2, "CUDA_R_16BF": 14}
COMPUTE_TYPES = {"TBD": 0, "DEFAULT": 1, "PEDANTIC": 2, "FP16": 3, "FP32": 4, "FP64": 5, "BF16": 6, "TF32": 7}


def modules():
    """{name: module} for sys.modules."""
    runtime = Module("cupy.cuda.runtime", CUDARuntimeError=CUDARuntimeError, memGetInfo=mem_get_info,
                     getDeviceCount=lambda: int(card().available), getDeviceProperties=device_properties,
                     getDevice=lambda: 0, deviceSynchronize=device_synchronize, runtimeGetVersion=lambda: 13000,
                     driverGetVersion=lambda: 13000, **CONSTANTS)
    memory = Module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError)
    device = Module("cupy.cuda.device", get_cublas_handle=lambda: 1, Device=Device,
                    get_compute_capability=lambda: card().capability)
    cuda = Module("cupy.cuda", runtime=runtime, memory=memory, device=device, cublas=Blas(), Device=Device, Event=Event,
                  Stream=Stream,
                  is_available=lambda: card().available, get_current_stream=lambda device_id=None: card().stream(),
                  alloc_pinned_memory=PinnedMemory, MemoryPool=MemoryPool, get_device_id=lambda: 0,
                  get_cublas_handle=lambda: 1)
    core = Module("cupy._core", get_compute_type=lambda dtype: card().compute_types.get(np.dtype(dtype), 1),
                  set_compute_type=lambda dtype, kind: card().compute_types.update({np.dtype(dtype): kind}),
                  _routines_linalg=Module("cupy._core._routines_linalg",
                                          **{f"COMPUTE_TYPE_{name}": i for name, i in COMPUTE_TYPES.items()}))
    tricks = Module("cupy.lib.stride_tricks", as_strided=as_strided)
    lib = Module("cupy.lib", stride_tricks=tricks)
    linalg = Module("cupy.linalg", norm=_like_numpy("cupy.linalg", "norm", np.linalg))
    random = Module("cupy.random")
    cupy = Module("cupy", ndarray=ndarray, ufunc=ufunc, cuda=cuda, lib=lib, linalg=linalg, random=random, _core=core,
                  array=array, asarray=asarray, asanyarray=asarray, asnumpy=asnumpy, empty=empty, empty_like=empty_like,
                  ascontiguousarray=ascontiguousarray, where=where, matmul=matmul, RawModule=RawModule,
                  get_array_module=get_array_module, get_default_memory_pool=MemoryPool,
                  result_type=lambda *args: np.result_type(*map(inner, args)), __version__=[*NAMES["version"]][0],
                  take=lambda a, indices, axis=None, out=None: a.take(indices, axis, out))
    cupy.__dict__.update(UFUNCS)
    cupy.__dict__.update({name: getattr(np, name) for name in SAME.split()})
    cupy.__dict__.update({name: _like_numpy("cupy", name) for name in LIKE_NUMPY.split()})
    cupy.__dict__.update({name: _making(name) for name in MAKING.split()})
    cupy.__dict__.update({name: _of_arrays(name) for name in ("concatenate", "stack", "vstack", "hstack")})
    cupy.__dict__.update({name: _waiting(name) for name in ("nonzero", "flatnonzero", "argwhere", "unique")})
    cupyx = Module("cupyx", empty_pinned=empty_pinned, zeros_pinned=zeros_pinned,
                   scatter_add=lambda a, slices, value: a.scatter_add(slices, value))
    all_of_them = (cupy, cuda, runtime, memory, device, lib, tricks, linalg, random, core, cupyx)
    return {module.__name__: module for module in all_of_them}


_CARDS = []


def card():
    """The card of the double that is in place."""
    if not _CARDS:
        raise RuntimeError("no double of CuPy is in place: with cupy_double().")
    return _CARDS[-1]


@contextlib.contextmanager
def cupy_double(**options):
    """`import cupy` gives the double meanwhile. options as of `Card`, which it yields."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("cupy", "cupyx")}
    for name in before:
        del sys.modules[name]
    sys.modules.update(MODULES)
    _CARDS.append(Card(**options))
    try:
        yield card()
        card().check()
    finally:
        _CARDS.pop()
        for name in [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupyx")]:
            del sys.modules[name]
        sys.modules.update(before)


if NAMES:
    MODULES = modules()
    CUPY = MODULES["cupy"]

if __name__ == "__main__":                              # where CuPy and ml_dtypes are: > tests/cupy_names.txt
    import cupy as installed
    print(write_names(survey(installed)), end="")
