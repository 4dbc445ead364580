"""The arguments of one check: which of them are arrays of floats, what they are called, and new ones for every call.

The arguments are taken apart once. Where an array of floats stood, in whatever dict, list, tuple, NamedTuple or
dataclass, the template holds a `Slot`; a deep copy of the template then is a new set of arguments, with the arrays of
one call in the slots and nothing that two calls share.
"""

import copy
import dataclasses
import inspect
import types
from fnmatch import fnmatchcase

import numpy as np

from ..refusals import CannotCheck
from .arrays import described, is_array, is_float, kind, to_numpy

STATISTICS = ("running_*", "moving_*")  # what a norm keeps between calls, which has no gradient by intent

ATOMIC = (int, float, complex, bool, str, type(None), types.FunctionType)  # no copy of these is needed


class Slot:
    """The place of one array of floats; a deep copy puts there what the call is given."""

    def __init__(self, name):
        self.name = name

    def __deepcopy__(self, memo):
        return memo["values"][self.name]


class Same:
    """What cannot be copied, and is the same object in every call."""

    def __init__(self, value):
        self.value = value

    def __deepcopy__(self, memo):
        return self.value


class Arguments:
    """The arguments of `f`: `.tops` {name: template of that argument}, `.leaves` {name: float64 array},
    `.given` {name: that array as it was handed over}, `.constants` {name: all else}, `.optional` names."""

    def __init__(self, f, args, kwargs, who):
        self.leaves, self.given, self.constants, self.optional, self.notes = {}, {}, {}, set(), []
        self.raised = {}  # {dtype: names}
        self.names = names = name_arguments(f, args, kwargs, who)
        values = [*args, *kwargs.values()]
        templates = [self.take_apart(value, name) for name, value in zip(names, values)]
        self.defaults = defaults_of(f, names)
        self.tops = dict(zip(names, templates))  # an object's parameters are entered later
        self.template = tuple(templates[: len(args)]), dict(zip(kwargs, templates[len(args) :]))

    def add_leaf(self, name, value):
        """Enter an array of floats: in float64, on the CPU."""
        array = to_numpy(value)
        if is_array(value) and array.dtype != np.float64:
            self.raised.setdefault(described(value).split(" ")[0], []).append(name)
        if isinstance(value, list):
            self.notes.append(f"{name} was given as a list and is handed over as an array.")
        self.given[name], self.leaves[name] = value, array.astype(np.float64)
        if type(value) is float or is_statistic(name):
            self.optional.add(name)

    def raised_notes(self):
        """What was given in another precision: sentences."""
        for dtype, names in self.raised.items():
            many = "were given in {} and are" if len(names) > 1 else "was given in {} and is"
            yield f"{', '.join(names)} {many.format(dtype)} checked in float64."

    def take_apart(self, value, name):
        """The template of one argument or a part of it."""
        if is_float(value):
            self.add_leaf(name, value)
            return Slot(name)
        parts = children(value)
        if parts and (isinstance(value, dict) or any_float(value)):  # [0, 2, 1] is one constant
            return with_children(value, {key: self.take_apart(part, f"{name}.{key}") for key, part in parts.items()})
        self.constants[name] = value
        try:
            copy.deepcopy(value)
        except Exception:  # whatever a class of the user's may raise
            return Same(value)
        return value

    def build(self, values):
        """New args and kwargs, with {name: array in the user's kind} in their slots."""
        memo = {"values": values}

        def new(part):
            if type(part) is Slot:
                return values[part.name]
            return part if type(part) in ATOMIC else copy.deepcopy(part, memo)

        args, kwargs = self.template
        return [new(part) for part in args], {name: new(part) for name, part in kwargs.items()}


def is_statistic(name):
    return any(fnmatchcase(name.split(".")[-1], pattern) for pattern in STATISTICS)


def any_float(value):
    """Whether there is an array of floats, or one that is refused, anywhere in a tree."""
    return kind(value) in ("f", "c", "O") or any(map(any_float, children(value).values()))


def children(value):
    """{key: part} of a dict, list, tuple, NamedTuple or dataclass; {} of everything else."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value))
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {}


def with_children(value, parts):
    """A container like `value` with other parts."""
    if isinstance(value, tuple):
        return type(value)(*parts.values()) if hasattr(value, "_fields") else tuple(parts.values())
    new = copy.copy(value)
    for key, part in parts.items():
        if dataclasses.is_dataclass(value):
            object.__setattr__(new, key, part)  # also of a frozen one
        else:
            new[key] = part
    return new


def defaults_of(f, names):
    """{name: default} of the arguments that were not handed over."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (ValueError, TypeError):
        return {}
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in names}


def name_arguments(f, args, kwargs, who):
    """The names of args, then of kwargs, as the signature of f has them; those of *xs are "xs0", "xs1" …

    Raises CannotCheck where f takes fewer or more, or not one of that name.
    """
    try:
        signature = inspect.signature(f)
    except (ValueError, TypeError):  # some built-in functions have none
        signature = None
    if signature is None or list(signature.parameters) == ["args", "kwargs"]:  # as those of NumPy's ufuncs
        any_more = inspect.Parameter("more", inspect.Parameter.VAR_KEYWORD)
        signature = inspect.Signature([inspect.Parameter("x", inspect.Parameter.VAR_POSITIONAL), any_more])
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in positional]
    rest = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    more = len(args) - len(names)
    takes = ", ".join(p.name for p in parameters) or "nothing"
    if more > 0 and not rest:
        raise CannotCheck(f"{who} takes {len(names)} arguments, not {len(args)}: it takes {takes}.")
    names = [*names[: len(args)], *(f"{rest[0]}{i}" for i in range(more) if rest)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        taken = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        for name in kwargs:
            if name not in taken:
                raise CannotCheck(f"{who} takes no argument {name!r}, neither does check; it takes {takes}.")
    for name in kwargs:
        if name in names:
            raise CannotCheck(f"{who} is given {name} twice, in order and by name.")
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and p.name not in names
        and p.name not in kwargs
    ]
    if missing and names[:1] == ["self"]:
        raise CannotCheck(f"{who} is a method without its object: hand over that of an object, check(layer.{who}, …).")
    if missing:
        were = "were" if len(missing) > 1 else "was"
        call = f"check({who}, {', '.join([*names, *missing])})"
        raise CannotCheck(
            f"{who} also wants {' and '.join(missing)}, which {were} not handed over; it takes {takes}: {call}."
        )
    return [*names, *kwargs]
