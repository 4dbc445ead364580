"""Where the arguments of the user's function come from: what makes them, a file of arrays, or shapes alone."""

import inspect
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .check import check
from .conventions import find_functions, signature_of
from .refusals import CannotCheck, raised

IN_ORDER = re.compile(r"arr_\d+")  # so np.savez(file, x, w) names them
SHAPE = re.compile(r"(\w+)=(number|\d+(?:[x×]\d+)*)(?::int<([1-9]\d*))?")


def call_theirs(what, function, *args, **kwargs):
    """A call of the user's code; what it raises, be it an exit, becomes the cause of CannotCheck."""
    try:
        return function(*args, **kwargs)
    except CannotCheck:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code may raise
        raise raised(what, error) from error


def make_inputs(name, inputs, seed):
    """Inputs, or what a function of rng, a generator, or seed, a number, returns or yields."""
    if not callable(inputs):
        return inputs
    signature = signature_of(inputs)
    known = {"rng": np.random.default_rng(seed), "seed": seed}
    if unknown := [parameter for parameter in required(signature) if parameter not in known]:
        raise CannotCheck(f"{name} wants {', '.join(unknown)}; what makes inputs takes rng or seed, or nothing.")
    random.seed(seed)
    np.random.seed(seed)  # many draw from these; so the same seed gives the same inputs
    given = call_theirs(name, inputs, **{key: known[key] for key in signature.parameters if key in known})
    if given is None:
        raise CannotCheck(f"{name} returned nothing (None); it is to return a tuple, a dict by name, or one array.")
    return call_theirs(name, tuple, given) if isinstance(given, Iterator) else given


def load_arrays(path):
    """The array of a file .npy; those of a file .npz, {name: array}, or a tuple where np.savez was given no names."""
    if not Path(path).is_file() or Path(path).suffix not in (".npz", ".npy"):
        raise CannotCheck(f"there is no file {path} of arrays; --inputs takes FILE.npz, FILE.npy or FILE.py::function.")
    try:
        arrays = np.load(path)
        if isinstance(arrays, np.ndarray):
            return arrays
        with arrays as file:
            arrays = {name: array if array.ndim else array.item() for name, array in file.items()}  # stride=2
    except Exception as error:  # damaged files raise anything
        raise CannotCheck(f"{path} holds no arrays that can be read: {str(error).rstrip('.')}.") from None
    return tuple(arrays.values()) if all(map(IN_ORDER.fullmatch, arrays)) else arrays


def draw_shapes(shapes, seed):
    """["x=4x5", "y=4:int<10", "scale=number"] -> {name: normal numbers, or integers below that}."""
    arrays = {}
    for text in shapes:
        match = SHAPE.fullmatch(text)
        if not match:
            raise CannotCheck(f"--shape {text!r} is not understood; say x=4x5, gamma=5, y=4:int<10 or scale=number.")
        name, size, limit = match.groups()
        shape = () if size == "number" else tuple(map(int, re.split("[x×]", size)))
        rng = np.random.default_rng([seed, *name.encode()])
        drawn = np.asarray(rng.integers(0, int(limit), shape) if limit else rng.standard_normal(shape))
        arrays[name] = drawn if shape else drawn.item()
    return arrays


# ------------------------------------------------------------------------------------------ as arguments


def bind(name, target, given, by_name=False):
    """What was given as args, kwargs of a function, a class or an object.

    given: a tuple or a list in order, a dict by name, or one argument, which may also be a dict unless `by_name`.
    Raises CannotCheck where it does not fit.
    """
    signature = signature_of(find_functions(target).forward)
    is_one = fits(signature, given)
    if isinstance(given, dict) and (by_name or not is_one or any(key in signature.parameters for key in given)):
        return bind_names(name, signature, given)
    if isinstance(given, (tuple, list)) and (fits(signature, *given) or not is_one):
        return tuple(given), {}
    return (given,), {}


def bind_names(name, signature, given):
    """The same for a dict by name."""
    if not fits(signature, **given):
        given_names = ", ".join(map(str, given)) or "none"
        raise CannotCheck(f"{name} takes {', '.join(signature.parameters)}; its inputs are {given_names}.")
    bound = signature.bind(**given)
    of_check = [p.name for p in inspect.signature(check).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if clash := [key for key in bound.kwargs if key in of_check]:
        raise CannotCheck(
            f"{name} takes {clash[0]} by name alone, which check does too: write a function that sets it."
        )
    return bound.args, bound.kwargs


def fits(signature, *args, **kwargs):
    """Whether a function of this signature can be called with these arguments."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def required(signature):
    """The names of the parameters without which there is no call."""
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in rest]


def takes_nothing(function):
    """Whether this is a function that can be called without arguments, and not one of any number of them."""
    return inspect.isfunction(function) and all(
        p.default is not p.empty for p in signature_of(function).parameters.values()
    )
