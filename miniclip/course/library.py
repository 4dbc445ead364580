"""The student's function in the library's place, in every module that uses it; and whether it leans on the library."""

import inspect
import sys
from functools import wraps

from ..backend import dispatch
from ..gradcheck import CASES
from .exercise import find_exercise

IN_PLACE = {}  # {name: what stands in the library now}


class put_in:
    """Put functions into the library: put_in(layer_norm, softmax), until `take_out`; or `with put_in(layer_norm): …`.

    Each is the answer to an exercise, whose decorator it carries. What is not written yet changes nothing. Raises
    ValueError for a function that is no answer.
    """

    def __init__(self, *functions):
        self.names = []
        for function in functions:
            name = exercise_name(function)
            take_out(name)
            if not getattr(function, "is_stand_in", False):
                reference = find_exercise(name).reference
                placed = made_ready(function, reference)
                exchange(reference, placed)
                IN_PLACE[name] = placed
                self.names.append(name)

    def __repr__(self):
        return f"in the library now: {', '.join(IN_PLACE) or 'nothing of yours'}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        take_out(*self.names)


def take_out(*functions):
    """Take functions, or their names, out of the library again; without any, all."""
    for function in functions or list(IN_PLACE):
        name = function if isinstance(function, str) else exercise_name(function)
        if name in IN_PLACE:
            exchange(IN_PLACE.pop(name), find_exercise(name).reference)


def exercise_name(function):
    """The exercise that a function answers. Raises ValueError."""
    name = getattr(function, "exercise", None)
    if name is None:
        what = getattr(function, "__name__", type(function).__name__)
        raise ValueError(f'{what} is the answer to no exercise: does @exercise("…") stand above it?')
    return name


def made_ready(function, reference):
    """What stands in the library for a student's function. Its `__wrapped__` is for what stands behind a door there.

    It has no door of its own: what comes to it went through those of larger functions, and what it returns meets the
    next. As the library's, it is ready for the kernels of other arrays.
    """
    known, takes = inspect.signature(reference).parameters, inspect.signature(function).parameters
    lacks = [name for name in known if name not in takes]
    starred = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in takes.values())
    if lacks and not starred and all(known[name].default is not inspect.Parameter.empty for name in lacks):
        function = with_the_rest(function, reference, lacks)
    return dispatch(function) if hasattr(reference, "__wrapped__") else function


def with_the_rest(function, reference, lacks):
    """The function; for a call with an argument that it lacks, the library's, and the first time that is said."""
    known, said = inspect.signature(reference), []

    @wraps(function)
    def either(*args, **named):
        given = known.bind(*args, **named).arguments
        asked = [name for name in lacks if given.pop(name, usual := known.parameters[name].default) is not usual]
        if not asked:
            return function(**given)
        if not said:
            print(f"{function.exercise} is called with {asked[0]}, which yours does not take: the library's stands in.")
            said.append(asked)
        return reference(*args, **named)

    return either


def exchange(old, new):
    """Let `new` stand wherever the library's modules know `old`: under a name, or as a default of a function.

    Where they know what is behind the door of `old`, what is behind that of `new`.
    """
    package = __name__.partition(".")[0]
    pairs = [(old, new)]
    if hasattr(old, "__wrapped__") and hasattr(new, "__wrapped__"):
        pairs.append((old.__wrapped__, new.__wrapped__))
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] != package or name.startswith(__package__):
            continue  # the course goes on knowing which is which
        for key, value in list(vars(module).items()):
            for one, other in pairs:
                if value is one:
                    setattr(module, key, other)
                    break
            else:
                if getattr(value, "__module__", None) == name:
                    exchange_default(value, old, new)
    for draw, _ in CASES.values():
        exchange_default(draw, old, new)


def exchange_default(function, old, new):
    """In the defaults of a function, which may stand behind a door."""
    function = inspect.unwrap(function) if callable(function) else function
    if inspect.isfunction(function) and any(default is old for default in function.__defaults__ or ()):
        function.__defaults__ = tuple(new if default is old else default for default in function.__defaults__)


# ------------------------------------------------------------------------------------------ whose work is it?


class Watch:
    """Notice calls of the library's functions: `with Watch(functions) as watch: …`, then watch.used {name}.

    By the file and the name of their code, so that a copy, an alias or a library imported anew is noticed as well.
    """

    def __init__(self, functions):
        codes = [inspect.unwrap(function).__code__ for function in functions]  # behind their doors
        self.codes, self.used = {(code.co_filename, code.co_name) for code in codes}, set()

    def look(self, frame, event, argument):
        code = frame.f_code
        if event == "call" and (code.co_filename, code.co_name) in self.codes:
            self.used.add(code.co_name)

    def __enter__(self):
        self.before = sys.getprofile()
        if self.codes:
            sys.setprofile(self.look)
        return self

    def __exit__(self, *_):
        sys.setprofile(self.before)
