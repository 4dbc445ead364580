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

    Each is the answer to an exercise, whose decorator it carries. What is not written yet changes nothing, and what has
    no counterpart in the library has no place in it: `.names` are those that have. Raises ValueError for a function
    that is no answer.
    """

    def __init__(self, *functions):
        self.names = []
        for function in functions:
            name = exercise_name(function)
            take_out(name)
            if not getattr(function, "is_stand_in", False):
                exercise = find_exercise(name)
                adapted = exercise.adapt(function) if exercise.adapt else function
                placed = made_ready(adapted, exercise.counterpart, name)
                if exchange(exercise.counterpart, placed):
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
            exchange(IN_PLACE.pop(name), find_exercise(name).counterpart)


def exercise_name(function):
    """The exercise that a function answers. Raises ValueError."""
    name = getattr(function, "exercise", None)
    if name is None:
        what = getattr(function, "__name__", type(function).__name__)
        raise ValueError(f'{what} is the answer to no exercise: does @exercise("…") stand above it?')
    return name


def made_ready(function, reference, name):
    """What stands in the library for a student's function. Its `__wrapped__` is for what stands behind a door there.

    It has no door of its own: what comes to it went through those of larger functions, and what it returns meets the
    next. As the library's, it is ready for the kernels of other arrays.
    """
    known, takes = inspect.signature(reference).parameters, inspect.signature(function).parameters
    lacks = [name for name in known if name not in takes]
    starred = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in takes.values())
    if lacks and not starred and all(known[name].default is not inspect.Parameter.empty for name in lacks):
        function = with_the_rest(function, reference, lacks, name)
    return dispatch(function) if hasattr(reference, "__wrapped__") else function


def with_the_rest(function, reference, lacks, name):
    """The function; for a call with an argument that it lacks, the library's, and the first time that is said."""
    known, said = inspect.signature(reference), []

    @wraps(function)
    def either(*args, **named):
        given = known.bind(*args, **named).arguments
        asked = [name for name in lacks if given.pop(name, usual := known.parameters[name].default) is not usual]
        if not asked:
            return function(**given)
        if not said:
            print(f"{name} is called with {asked[0]}, which yours does not take: the library's stands in.")
            said.append(asked)
        return reference(*args, **named)

    return either


def exchange(old, new):
    """Let `new` stand wherever the library knows `old`: under a name in a module or class, or as a default.

    Where they know what is behind the door of `old`, what is behind that of `new`. -> in how many places.
    """
    package = __name__.partition(".")[0]
    pairs, count = [(old, new)], 0
    if hasattr(old, "__wrapped__") and hasattr(new, "__wrapped__"):
        pairs.append((old.__wrapped__, new.__wrapped__))
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] != package or name.startswith(__package__):
            continue  # the course goes on knowing which is which
        for owner, key, value in known_to(module):
            other = next((other for one, other in pairs if value is one), None)
            if other is not None:
                setattr(owner, key, other)
                count += 1
            elif getattr(value, "__module__", None) == name:
                count += exchange_default(value, old, new)
    return count + sum(exchange_default(draw, old, new) for draw, _ in CASES.values())


def known_to(module):
    """[(module or class of it, name, what stands under this name)]."""
    classes = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
    return [(owner, key, value) for owner in (module, *classes) for key, value in vars(owner).items()]


def exchange_default(function, old, new):
    """In the defaults of a function, which may stand behind a door -> whether it was one of them."""
    function = inspect.unwrap(function) if callable(function) else function
    known = inspect.isfunction(function) and any(default is old for default in function.__defaults__ or ())
    if known:
        function.__defaults__ = tuple(new if default is old else default for default in function.__defaults__)
    return known


# ------------------------------------------------------------------------------------------ whose work is it?


class Watch:
    """Notice calls of the library's functions: `with Watch(functions) as watch: …`, then watch.used {name}.

    By the place of their code, so that a copy, an alias or a library imported anew is noticed as well.
    A profiler that runs is interrupted, and goes on afterwards.
    """

    def __init__(self, functions):
        codes = [inspect.unwrap(function).__code__ for function in functions]  # behind their doors
        self.codes, self.used = set(map(place_of, codes)), set()

    def look(self, frame, event, argument):
        """What Python calls at every call while this watches: note which of the functions it was."""
        if event == "call" and place_of(frame.f_code) in self.codes:
            self.used.add(frame.f_code.co_name)

    def __enter__(self):
        self.before = sys.getprofile() if self.codes else None
        if self.codes:
            sys.setprofile(self.look)
        return self

    def __exit__(self, *_):
        if hasattr(self.before, "enable"):  # Python's own profiler is no function: it is set by itself
            sys.setprofile(None)
            self.before.enable()
        elif self.codes:
            sys.setprofile(self.before)


def place_of(code):
    """Where code stands, the same for every copy of it."""
    return code.co_filename, code.co_firstlineno, code.co_name
