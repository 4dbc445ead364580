"""Running a forward pass with one step of it changed: what would the gradient be if backward forgot this step?

Arrays of the class `Traced` carry a slope along as their imaginary part, as the complex step does, and tell a `Trace`
of every function of NumPy that they pass through. At a chosen step the trace may change the slope and leave the value:
drop it, as a backward pass does that takes a variance for a constant, or let it through, as one does that forgets
relu's mask. The slope at the end is then the one that such a backward claims. Functions that are not analytic (abs,
var, norm …) are given the derivative of their real part (analytic.py), so they may stand in the forward pass.
"""

import sys
import threading
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .analytic import REAL
from .source_text import positions, source_of
from .step import STEP, Step

BUFFERS = ("zeros", "empty", "ones", "full", "array")  # what a forward pass writes its results into
LAYOUT = {"reshape", "moveaxis", "expand_dims", "squeeze", "ravel", "broadcast_to", "split", "copy", "atleast_2d",
          "zeros_like", "ones_like", "empty_like", "full_like", "array_split"}  # fmt: skip
NOT_THEIRS = str(Path(__file__).parents[1]), str(Path(np.__file__).parent)  # where no forward pass is written
DOORS = tuple(str(Path(__file__).parents[2] / name) for name in ("checks.py", "backend.py"))  # passed on the way
DEPTH = 3  # calls within the forward pass that tell two steps apart
running = ContextVar("running", default=None)  # the trace of this thread
one_at_a_time = threading.RLock()  # for NumPy's own names are exchanged while a trace runs


@dataclass
class Trace:
    """The steps of one run; `change(step)` gives another result, or None, for each."""

    direction: np.ndarray  # in which the array moves
    change: object = None
    steps: list = field(default_factory=list)
    constants: list = field(default_factory=list)  # steps that do not depend on the array
    rounds: dict = field(default_factory=dict)

    def enter(self, name, call, inputs):
        """Call, change what is to be changed, and remember it."""
        result = call(*inputs)
        if not isinstance(result, np.ndarray | np.complexfloating) or not np.iscomplexobj(result):
            return result
        if name in LAYOUT:
            return traced(result)
        step = Step(where(), 0, name, call, inputs, np.asarray(result), self)
        if not step.moving:
            self.constants.append(step)
        else:
            step.round = self.rounds[step.site] = self.rounds.get(step.site, -1) + 1
            changed = self.changed(step) if self.change else None
            if changed is not None:
                result = changed
                step.result = np.asarray(result)
            self.steps.append(step)
        return traced(result)

    def changed(self, step):
        """The other result of a step, or None; what is computed for it is no step."""
        token = running.set(None)
        try:
            return self.change(step)
        finally:
            running.reset(token)


def as_function(name):
    """The function of NumPy as a method of an array: the function tells the trace, the method would not."""
    return lambda self, *args, **options: getattr(np, name)(self, *args, **options)


class Traced(np.ndarray):
    """A complex array that tells the trace of this thread what it passes through."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs = [np.asarray(plain(i)) for i in inputs]
        if method == "at":
            return getattr(ufunc, method)(*inputs, **options)
        name = {"add": "sum", "multiply": "prod"}.get(ufunc.__name__, ufunc.__name__) if method == "reduce" else None
        function = REAL.get(ufunc.__name__) or getattr(ufunc, method)
        result = enter(name or ufunc.__name__, lambda *a: function(*a, **options), inputs)
        if out is None:
            return result
        plain(out[0])[...] = plain(result)
        return out[0]

    def __array_function__(self, function, types, args, options):
        """Its arrays may stand in a list, as those of np.concatenate do: they are the inputs, in order."""
        inputs = list(arrays_in((args, options)))
        real = REAL.get(function.__name__, function)

        def call(*arrays):
            queue = iter(arrays)
            args_now, options_now = replaced((args, options), queue)
            return real(*args_now, **options_now)

        result = enter(function.__name__, call, inputs)
        if isinstance(result, list | tuple):
            return type(result)(traced(r) if np.iscomplexobj(r) else r for r in result)
        return traced(result) if isinstance(result, np.ndarray) and np.iscomplexobj(result) else result

    def __getitem__(self, index):
        """Rows that are taken by their numbers are a step, for one may be taken twice; a slice is not."""
        keys = index if isinstance(index, tuple) else (index,)
        if any(isinstance(key, list) or getattr(key, "dtype", np.dtype(bool)).kind in "iu" for key in keys):
            return enter("take", lambda values: values[index], [plain(self)])
        return super().__getitem__(index)

    def astype(self, dtype, *args, **options):
        values = plain(self)
        return traced(values.copy()) if np.dtype(dtype).kind in "fc" else values.real.astype(dtype)

    mean, var, std, dot, clip = map(as_function, ("mean", "var", "std", "dot", "clip"))
    swapaxes = as_function("swapaxes")
    conj = conjugate = lambda self: self
    real = property(lambda self: self)
    T = property(lambda self: np.transpose(self))

    def transpose(self, *axes):
        return np.transpose(self, axes if len(axes) > 1 else axes[0] if axes else None)


def enter(name, call, inputs):
    """Run one step of the forward pass, as the trace that is running would have it."""
    trace = running.get()
    return trace.enter(name, call, inputs) if trace else call(*inputs)


def traced(values):
    """An array that tells the trace of what it passes through."""
    return np.asarray(values).view(Traced)


def plain(x):
    """The array itself, of one that is traced."""
    return x.view(np.ndarray) if isinstance(x, Traced) else x


def arrays_in(x):
    """The arrays among arguments that may be nested, as plain arrays."""
    if isinstance(x, np.ndarray):
        yield plain(x)
    elif isinstance(x, list | tuple | dict):
        for item in x.values() if isinstance(x, dict) else x:
            yield from arrays_in(item)


def replaced(x, queue):
    """The same arguments with the next array of the queue for each array."""
    if isinstance(x, np.ndarray):
        return next(queue)
    if isinstance(x, dict):
        return {key: replaced(item, queue) for key, item in x.items()}
    return type(x)(replaced(item, queue) for item in x) if isinstance(x, list | tuple) else x


def where():
    """The calls in the forward pass that led here, the innermost first: ((code, position in the source), …)."""
    frame, calls = sys._getframe(2), []
    while frame and len(calls) < DEPTH:
        file = frame.f_code.co_filename
        if not file.startswith((*NOT_THEIRS, *DOORS)):
            calls.append((frame.f_code, positions(frame.f_code)[frame.f_lasti // 2]))
        elif calls and file not in DOORS:
            break
        frame = frame.f_back
    return tuple(calls)


# ------------------------------------------------------------------------------------------ a run


@contextmanager
def complex_buffers():
    """np.zeros and the like give complex arrays to this thread, for a buffer of real numbers would drop the slope."""
    own = {name: getattr(np, name) for name in BUFFERS}

    def buffer(name):
        def make(*args, **options):
            numbers = own[name](*args, **options)
            if not running.get() or not (calls := where()):
                return numbers
            of_random = name == "empty" and "empty" not in source_of(calls[0])[0]  # NumPy's generators fill such ones
            if of_random or numbers.dtype.kind not in ("c" if name == "array" else "fc"):
                return numbers
            return traced(numbers.astype(complex))

        return make

    try:
        for name in BUFFERS:
            setattr(np, name, buffer(name))
        yield
    finally:
        for name in BUFFERS:
            setattr(np, name, own[name])


def run(e, u, change=None):
    """(how F = ⟨c, y⟩ moves along u, the trace) of the forward pass with this change; (NaN, None) where it fails."""
    trace = Trace(u.reshape(e.claimed.shape), change)
    leaves = {name: traced(leaf + 0j) for name, leaf in e.leaves.items()}
    leaves[e.name] = traced(e.x + STEP * 1j * trace.direction)
    token = running.set(trace)
    try:
        with one_at_a_time, warnings.catch_warnings(), np.errstate(all="ignore"), complex_buffers():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            y = e.follow(leaves)
            return float((e.cotangent * y.imag).sum() / STEP), trace
    except Exception:  # a changed forward pass may do whatever its author did not think of
        return np.nan, None
    finally:
        running.reset(token)
