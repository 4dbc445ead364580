"""The arguments of one check: which of them are arrays of floats, what they are called, and new ones for every call.

The arguments are taken apart once. Where an array of floats stood, in whatever dict, list, tuple, NamedTuple or
dataclass, the template holds a `Slot`; a deep copy of the template then is a new set of arguments, with the arrays of
one call in the slots and nothing that two calls share.
"""

import copy
import dataclasses
import functools
import inspect
import types
from fnmatch import fnmatchcase

import numpy as np

from ..refusals import CannotCheck
from .arrays import described, is_array, is_float, kind, to_numpy

STATISTICS = ("running_*", "moving_*")  # what a norm keeps between calls, which has no gradient by intent

ATOMIC = (int, float, complex, bool, str, type(None), types.FunctionType)  # no copy of these is needed
IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Slot:
    """The place of one array of floats; a deep copy puts there what the call is given."""

    def __init__(self, name):
        self.name = name

    def __deepcopy__(self, memo):
        return memo["values"][self.name]


class Arguments:
    """The arguments of `f`: `.tops` {name: template of that argument}, in the order of its signature, `.leaves`
    {name: float64 array}, `.given` {name: that array as it was handed over}, `.constants` {name: all else}, and
    `.optional` names. `.values` {name: value} are these and the defaults, and what a partial function holds."""

    def __init__(self, f, args, kwargs, who):
        self.leaves, self.given, self.constants, self.optional, self.notes = {}, {}, {}, set(), []
        self.raised, self.kept, self.templates = {}, {}, {}  # {dtype: names}, {id: what cannot be copied}, by id
        names, self.starred, self.values = name_arguments(f, args, kwargs, who)
        self.by_name = list(kwargs)
        self.in_order = [name for name in names if name not in kwargs]
        self.tops = {name: self.take_apart(self.values[name], name) for name in names}  # an object's are entered later

    def add_leaf(self, name, value):
        """Enter an array of floats: in float64, on the CPU."""
        array = to_numpy(value)
        if is_array(value) and array.dtype.name != "float64":
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
            parts = {key: self.take_apart(part, f"{name}.{key}") for key, part in parts.items()}
            template = with_children(value, parts)
            self.templates[id(template)] = template
            return template
        self.constants[name] = value
        try:
            copy.deepcopy(value)
        except Exception:  # whatever a class of the user's may raise
            self.kept[id(value)] = value
        return value

    def build(self, values, kept):
        """New args and kwargs, with {name: array in the user's kind} in their slots. kept: {id: what is not copied}."""
        memo = {**self.kept, **kept, "values": values}

        def new(part):
            if type(part) is Slot:
                return values[part.name]
            if id(part) in self.templates and type(part) in (dict, list):  # the same as a deep copy, and quicker
                return {key: new(x) for key, x in part.items()} if type(part) is dict else [new(x) for x in part]
            return part if type(part) in ATOMIC else copy.deepcopy(part, memo)

        return [new(self.tops[name]) for name in self.in_order], {name: new(self.tops[name]) for name in self.by_name}


def is_statistic(name):
    """Whether a name is that of running statistics, which a backward pass gives no gradient of."""
    return any(fnmatchcase(name.split(".")[-1], pattern) for pattern in STATISTICS)


# ------------------------------------------------------------------------------------------ trees


def any_float(value):
    """Whether there is an array of floats, or one that is refused, anywhere in a tree."""
    return kind(value) in ("f", "c", "O", "masked") or any(map(any_float, children(value).values()))


def children(value):
    """{key: part} of a dict, list, tuple, NamedTuple, dataclass or SimpleNamespace; {} of everything else."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value))
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if isinstance(value, types.SimpleNamespace):
        return dict(vars(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {}


def with_children(value, parts):
    """A container like `value` with other parts."""
    if isinstance(value, tuple):
        return type(value)(*parts.values()) if hasattr(value, "_fields") else tuple(parts.values())
    new = copy.copy(value)
    for key, part in parts.items():
        if isinstance(value, (dict, list)):
            new[key] = part
        else:
            object.__setattr__(new, key, part)  # also of a frozen dataclass
    return new


# ------------------------------------------------------------------------------------------ names


def signature_of(f):
    """Its signature; (x, …) where it has none, as some built-in functions, or hides it behind *args, **kwargs."""
    try:
        signature = inspect.signature(f)
    except (ValueError, TypeError):
        signature = None
    if signature is None or list(signature.parameters) == ["args", "kwargs"]:
        signature = inspect.Signature([inspect.Parameter(*pair) for pair in zip(("x", "more"), STARRED)])
    return signature


def name_arguments(f, args, kwargs, who):
    """Names in the order of the signature of f: of what was handed over, and of those of *xs, "xs0", "xs1" …

    Also {name: value} of all arguments in that order: what was handed over, defaults, and what a partial function
    holds. Raises CannotCheck where f takes fewer or more, or not one of that name.
    """
    signature = signature_of(f)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        raise CannotCheck(misfit(signature.parameters.values(), args, kwargs, who)) from None
    handed = list(bound.arguments)
    bound.apply_defaults()
    values = dict(zip(signature_of(f.func).parameters, f.args)) if isinstance(f, functools.partial) else {}
    names, starred = [], []
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            value = {f"{name}{i}": x for i, x in enumerate(value)}
            starred = list(value)
        several = value if kind in STARRED else {name: value}
        names += several if name in handed else []
        values |= several
    return names, starred, values


def misfit(parameters, args, kwargs, who):
    """Why a function of these parameters cannot be called with these arguments: a sentence."""
    takes = ", ".join(p.name for p in parameters) or "nothing"
    in_order = [p.name for p in parameters if p.kind in IN_ORDER]
    given = in_order[: len(args)]
    missing = [
        p.name for p in parameters
        if p.default is p.empty and p.kind not in STARRED and p.name not in given and p.name not in kwargs
    ]  # fmt: skip
    if len(args) > len(in_order) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return f"{who} takes {len(in_order)} arguments, not {len(args)}: it takes {takes}."
    for name in kwargs:
        if name in given:
            return f"{who} is given {name} twice, in order and by name."
        if name not in [p.name for p in parameters] and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return f"{who} takes no argument {name!r}, neither does check; it takes {takes}."
    if given[:1] == ["self"]:
        return f"{who} is a method without its object: hand over that of an object, check(layer.{who}, …)."
    were = "were" if len(missing) > 1 else "was"
    call = f"check({who}, {', '.join([*given, *missing])})"
    return f"{who} also wants {' and '.join(missing)}, which {were} not handed over; it takes {takes}: {call}."
