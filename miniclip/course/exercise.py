"""Exercises: which functions the student writes, and how each of them will be looked at.

    norms = Notebook("03_norms")                                 # in exercises/n03_norms.py
    norms.layer(softmax, points=3, hints=("…", "…"))             # y, backward = softmax(x)
    slope.function(central, draw=points_of_central)              # any other function, judged by what it returns

In a notebook the student writes

    @exercise("softmax")
    def softmax(x, axis=-1): ...

and what is not written yet is done by the library, which says so.
"""

import inspect
import pkgutil
from dataclasses import dataclass, field
from importlib import import_module

from . import exercises as files
from .written import is_unwritten

VARIANTS = "variants"  # the notebook of exercises for marks, which is another for each student
BY_NAME = {}  # {name: Exercise}, in the order of the notebooks
CONSTANT = ("mask", "*running_mean", "*running_var")  # arrays of floats without a gradient, as in gradcheck.CASES


@dataclass(frozen=True)
class Mistake:
    """A wrong function that people write: who answers as it does is told `sentence`. kind: to find its hints."""

    kind: str
    sentence: str
    function: object


@dataclass(frozen=True, repr=False)
class Exercise:
    """One function to write. See `Notebook.layer` for the fields."""

    name: str
    notebook: str
    reference: object
    points: int
    is_layer: bool
    draw: object = None
    sizes: tuple = ()
    traps: dict = field(default_factory=dict)
    forward_only: tuple = ()
    blind: dict = field(default_factory=dict)
    mistakes: tuple = ()
    hints: tuple = ()
    kinds: dict = field(default_factory=dict)
    inside: str = ""
    forbidden: tuple = ()
    exclude: tuple = CONSTANT
    tolerance: float = 1e-9
    has_backward: bool = True
    stands_for: object = None
    adapt: object = None

    def __repr__(self):
        return self.name

    @property
    def parameters(self):
        """The names of its parameters."""
        return list(inspect.signature(self.reference).parameters)

    @property
    def counterpart(self):
        """What of the library an answer stands for, once it is put in."""
        return self.stands_for or self.reference


class Notebook:
    """A notebook of the course, name "03_norms", and the exercises in it."""

    def __init__(self, name):
        self.name = name

    def layer(self, reference, points=4, **fields):
        """Enter a function y, backward = f(…), or one of the library's losses: its gradients are checked.

        reference: the right function, of the library where there is one: the exercise has its name.
        points: for marks.
        draw: (r, n, d, …) -> arguments, r a `RandomInputs`; letters are lengths, as in gradcheck.CASES, whose case of
            the same name is the default.
        sizes: of points.SIZES, those that make sense for it; by default all.
        traps: {"a masked entry": r -> arguments}, further points that must be right; forward_only: the names of those
            where the gradients are not looked at, for there they may be anything.
        blind: {"γ = 1 and β = 0": function of the arguments -> arguments}: points where mistakes do not show. They
            are not marked; a student whose mistake hides there is told so.
        mistakes: `Mistake`s of the forward pass; one that shows only at a trap is named there.
        hints: from the vaguest to the plainest; kinds: {kind of diagnosis, trap or stage: hints} that come first.
        inside: a case of gradcheck, "whole model (ViT)", in which the function must be right as well.
        forbidden: functions of the library, besides the reference, that may not be called.
        exclude: arguments without a gradient, as `check` takes them.
        has_backward: False where the reference returns the output alone, so that no backward pass can be read
            anywhere: for variants, whose gradients are proven by the forward pass.
        stands_for: the function of the library, or method of a class there, for which an answer stands once it is put
            in; by default the reference. adapt: answer -> a function with the signature of that one.
        """
        return self.enter(reference, points, True, fields)

    def function(self, reference, draw, points=2, **fields):
        """Enter any other function, judged by what it returns, where the reference returns the same.

        tolerance: the largest error, relative to the largest number of the right answer. The rest is as for `layer`.
        """
        return self.enter(reference, points, False, {"draw": draw} | fields)

    def enter(self, reference, points, is_layer, fields):
        """Enter an `Exercise` under its name. Raises ValueError where there is one of that name."""
        name = fields.pop("name", reference.__name__)
        if name in BY_NAME:
            raise ValueError(f"there are two exercises {name!r}.")
        BY_NAME[name] = Exercise(name, self.name, reference, points, is_layer, **fields)
        return BY_NAME[name]


def load():
    """Import every file of exercises, once: each enters its own."""
    for module in sorted(module.name for module in pkgutil.iter_modules(files.__path__)):
        import_module(f"{files.__name__}.{module}")
    return BY_NAME


def find_exercise(name):
    """The `Exercise` of this name. Raises ValueError, with the names that there are."""
    if name not in load():
        raise ValueError(f"there is no exercise {name!r}; there are: {', '.join(BY_NAME)}.")
    return BY_NAME[name]


def exercises_of(notebook):
    """[Exercise] of a notebook, "03_norms", in order."""
    return [one for one in load().values() if one.notebook == notebook]


def notebooks():
    """The names of all notebooks of the course with exercises, in order; not the variants."""
    return list(dict.fromkeys(one.notebook for one in load().values() if one.notebook != VARIANTS))


# ------------------------------------------------------------------------------------------ in a notebook


def exercise(name):
    """The decorator of a student's function -> the function; or, where it is not written yet, the library's.

    Raises ValueError for a name that is no exercise.
    """
    found = find_exercise(name)

    def enter(function):
        """Enter an `Exercise` under its name. Raises ValueError where there is one of that name."""
        if function is found.reference:
            return function
        if not inspect.isfunction(function):
            raise ValueError(f"{name} is to be a function that is written here, with def.")
        if not is_unwritten(function):
            function.exercise = name
            return function
        print(f"{name} is not written yet: the library's stands in.")
        return stand_in(found)

    return enter


def not_written(*dy):
    """The backward pass of what nobody has written."""
    raise NotImplementedError("the backward pass is not written yet, and the library has none.")


def stand_in(found):
    """The library's function under the student's name, which `grade` knows to be nobody's answer."""

    def library(*args, **named):
        result = found.reference(*args, **named)
        return result if found.has_backward else (result, not_written)

    library.__name__ = library.__qualname__ = found.name
    library.__signature__ = inspect.signature(found.reference)
    library.exercise, library.is_stand_in = found.name, True
    return library
