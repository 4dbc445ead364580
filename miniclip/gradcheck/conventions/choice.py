"""Which arguments are differentiated: wrt, exclude, and what no gradient can be checked of."""

from fnmatch import fnmatchcase

import numpy as np

from ..refusals import CannotCheck
from .arrays import described, is_array, is_tensor, kind


def covers(pattern, name):
    """Whether a pattern of `wrt` or `exclude` means this name: as a pattern, or as what it is a part of."""
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def choose_names(arguments, wrt, exclude):
    """The names to differentiate, and those that are optional. Raises ValueError and CannotCheck."""
    wrt, exclude = (patterns_of(given, list(arguments.tops)) for given in (wrt, exclude))
    everything = [*arguments.leaves, *arguments.constants]
    for pattern in wrt:
        if not any(covers(pattern, name) for name in everything):
            raise CannotCheck(f"wrt names {pattern!r}, which is not there; choose from: {', '.join(arguments.leaves)}.")
    chosen = [name for name in everything if not wrt or any(covers(p, name) for p in wrt)]
    chosen = [name for name in chosen if not any(covers(p, name) for p in exclude)]
    for name in chosen:
        if name in arguments.constants:
            refuse_constant(name, arguments.constants[name], is_named=name in wrt)
    optional = set() if wrt else {name for name in chosen if name in arguments.optional}
    names = [name for name in chosen if name in arguments.leaves and name not in optional]
    if not names and not optional:
        raise CannotCheck(nothing_left(arguments, wrt, exclude))
    for name in names:
        refuse_values(name, arguments.leaves[name], arguments.given[name])
    return names, optional


def patterns_of(given, tops):
    """wrt or exclude as a list of patterns; the number of an argument stands for its name."""
    given = [] if given is None else [given] if isinstance(given, (str, int)) else given
    if not isinstance(given, (list, tuple, set)) or not all(isinstance(pattern, (str, int)) for pattern in given):
        raise CannotCheck(
            f"wrt and exclude take names, patterns of names, or numbers of arguments, not {described(given)}."
        )
    for number in given:
        if isinstance(number, int) and not 0 <= number < len(tops):
            raise CannotCheck(f"there is no argument {number} among {', '.join(tops)}, which count from 0.")
    return [tops[pattern] if isinstance(pattern, int) else pattern for pattern in given]


def refuse_constant(name, value, is_named=False):
    """Raise CannotCheck for what looks like something to differentiate, or is named by wrt, and cannot be."""
    if kind(value) == "c" and is_array(value):
        raise CannotCheck(
            f"{name} is {described(value)}: gradients of complex arguments are not checked; hand over its real and "
            f"imaginary part as two arrays, or exclude=[{name!r}] where it is a constant."
        )
    if kind(value) == "masked":
        raise CannotCheck(
            f"{name} is a masked array: hand over its numbers and its mask as two arrays, {name}.filled(0) and "
            f"~{name}.mask, or exclude=[{name!r}] where it is a constant."
        )
    if kind(value) == "O" and all(isinstance(item, (int, float, list, np.ndarray)) for item in value.flat):
        raise CannotCheck(
            f"{name} is an array of objects, {value.shape}: hand over an array of floats, np.array({name}, float), "
            f"or a list of arrays where they differ in shape."
        )
    if is_named and (how := as_floats(name, value)):
        raise CannotCheck(f"{name} is {described(value)}: give floats, {how}.")


def as_floats(name, value):
    """How an argument is handed over as floats, where it holds integers or the like; else ""."""
    if is_tensor(value):
        return f"{name}.double()"
    if is_array(value):
        return f"{name}.astype(float)" if kind(value) in ("i", "u", "b", "O") else ""
    are_integers = isinstance(value, list) and value and all(isinstance(n, int) for n in value)
    return f"np.array({name}, float)" if isinstance(value, int) or are_integers else ""


def refuse_values(name, leaf, given):
    """Raise CannotCheck for an array that is empty or not finite."""
    shown = described(given) if is_array(given) or is_tensor(given) else f"{leaf.dtype} {leaf.shape}"
    if not leaf.size:
        raise CannotCheck(f"{name}, {shown}, is empty: it must have entries, all of them real and finite.")
    bad = ~np.isfinite(leaf)
    if bad.any():
        what = "NaN" if np.isnan(leaf).any() else "infinity"
        raise CannotCheck(
            f"{name}, {shown}, has {what} among {bad.sum()} of its {leaf.size} entries: it must be real and finite; "
            f"where it is a constant, such as a mask, exclude=[{name!r}]."
        )


def nothing_left(arguments, wrt, exclude):
    """Why there is nothing to differentiate: a sentence."""
    if wrt or exclude and arguments.leaves:
        return (
            f"wrt={wrt} and exclude={exclude} leave nothing to differentiate; the arrays of floats are "
            f"{', '.join(arguments.leaves) or 'none'}."
        )
    for name, value in arguments.constants.items():
        if how := as_floats(name, value):
            return f"{name} is {described(value)}: give floats, {how}; there is nothing to differentiate."
    handed = "; ".join(f"{name} is {described(value)}" for name, value in arguments.constants.items())
    return (
        f"no argument is an array of floats: there is nothing to differentiate. Handed over: {handed or 'nothing'}; "
        "taken are arrays of floats, alone or in dicts and lists: check(f, np.array(x, float))."
    )
