"""What cannot be checked, and how to hand it over: a sentence above the exception that the user's code raised."""

import re

import numpy as np

DATA = re.compile(r"mask|label|target|truth|y_true|one_?hot|running_|moving_|gold|ground", re.IGNORECASE)


class CannotCheck(ValueError):
    """The input cannot be checked. Its text is one sentence; where the user's code raised, that is its `__cause__`."""


def raised(what, error, more=""):
    """The refusal where the user's code raised, to be raised from that: what it was, and the first line it says."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # a class of the user's again
        lines = []
    because = f": {lines[0][:200].rstrip('.')}" if lines else ""
    return CannotCheck(f"{what} raised {type(error).__name__}{because}{more}.")


MANNERS = (
    "Taken are: y, backward = f(x, …); a forward with backward=; loss, gradients = f(x, …); "
    "a function that returns one number with gradient=; an object with forward and backward."
)


def looks_like_data(name, array):
    """A sentence where an argument, a NumPy array, is clearly data without a gradient; else ""."""
    values = array[np.isfinite(array)]
    if array.size > 1 and {0.0, 1.0} == set(np.unique(values)):
        why = "holds only 0 and 1"
    elif np.isneginf(array).any() and not values.any():
        why = "holds only 0 and minus infinity"
    elif DATA.search(name.split(".")[-1]):
        why = "has a name of data"
    else:
        return ""
    return f"{name} {why} and looks like data without a gradient: if so, say exclude=[{name!r}]."
