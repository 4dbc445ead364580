"""What a student's function returned beside what is right, in one sentence where they differ."""

import numpy as np

NUMBERS = (bool, int, float, complex, np.generic)


def differs(found, wanted, tolerance, name="y", floor=0.0):
    """What is wrong with `found`, in words without a subject, or "". Both may be trees of arrays and numbers.

    tolerance: of the largest number of an array, or of `floor` where that is larger.
    """
    if found is None and wanted is not None:
        return "returned nothing (None): does its last line say return?" if name == "y" else f"gives None for {name}"
    if isinstance(wanted, (tuple, list)):
        return differs_in_parts(found, wanted, tolerance, name, floor)
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or set(map(str, found)) != set(map(str, wanted)):
            keys = f"a dict of {', '.join(map(str, found))}" if isinstance(found, dict) else kind_of(found)
            return f"{of(name)} is {keys}, and should be a dict of {', '.join(map(str, wanted))}"
        parts = (differs(found[key], wanted[key], tolerance, f'{name}["{key}"]', floor) for key in wanted)
        return next(filter(None, parts), "")
    if isinstance(wanted, np.ndarray) or isinstance(wanted, NUMBERS):
        return differs_in_numbers(found, wanted, tolerance, name, floor)
    return (
        ""
        if type(found) is type(wanted) and found == wanted
        else f"{of(name)} is {short(found)}, should be {short(wanted)}"
    )


def differs_in_parts(found, wanted, tolerance, name, floor):
    """How a sequence of parts differs from the wanted one, as `differs` says it; "" where it does not."""
    if not isinstance(found, (tuple, list)) or len(found) != len(wanted):
        what = f"{len(found)} parts" if isinstance(found, (tuple, list)) else kind_of(found)
        return (
            f"returns {what}, and should return {len(wanted)}"
            if name == "y"
            else (f"{of(name)} is {what}, and should have {len(wanted)}")
        )
    parts = (differs(f, w, tolerance, f"{name}[{k}]", floor) for k, (f, w) in enumerate(zip(found, wanted)))
    return next(filter(None, parts), "")


def differs_in_numbers(found, wanted, tolerance, name, floor):
    """The same for one array or one number: its shape, its kind of number, then the worst entry."""
    if not isinstance(found, (np.ndarray, *NUMBERS)):
        return f"{of(name)} is {kind_of(found)}, and should be {kind_of(wanted)}"
    if np.shape(found) != np.shape(wanted):
        return f"{of(name)} has shape {np.shape(found)}, and should have {np.shape(wanted)}"
    y, right = np.asarray(found), np.asarray(wanted)
    if (y.dtype.kind != right.dtype.kind or y.dtype.kind in "fc" and y.dtype != right.dtype) and y.ndim:
        return f"{of(name)} is of {y.dtype}, and should be of {right.dtype}"
    if y.dtype.kind not in "fciub":
        return f"{of(name)} holds no numbers"
    if not np.isfinite(y[np.isfinite(right)]).all():
        return f"{of(name)} is not finite: it holds {'NaN' if np.isnan(y).any() else 'infinity'}"
    finite = np.isfinite(right)
    scale = max(float(np.abs(right[finite]).max(initial=0.0)), floor) or 1.0
    with np.errstate(invalid="ignore"):
        same = (y == right) | np.isnan(y) & np.isnan(right)
        apart = np.where(finite, np.abs(y - right), np.where(same, 0.0, np.inf))
    if not apart.size or apart.max() <= tolerance * scale:
        return ""
    worst = np.unravel_index(int(np.argmax(apart)), apart.shape)
    where = f"{name}{list(map(int, worst))}" if worst else of(name)
    return f"{where} is {told_apart(y[worst], right[worst])}"


def told_apart(found, wanted):
    """ "2.4731, should be 2.4729": two numbers, with as many digits as show that they differ."""
    digits = next((digits for digits in range(4, 17) if f"{found:.{digits}g}" != f"{wanted:.{digits}g}"), 17)
    return f"{found:.{digits}g}, should be {wanted:.{digits}g}"


def of(name):
    """ "y", "y[1]": what was returned."""
    return "what it returns" if name == "y" else name


def kind_of(value):
    """What a value is, for a sentence."""
    if isinstance(value, np.ndarray):
        return f"an array {value.shape}"
    if callable(value):
        return "a function"
    if isinstance(value, (tuple, list, dict, str)):
        return f"a {type(value).__name__}"
    return "a number" if isinstance(value, NUMBERS) else getattr(value, "odd_name", type(value).__name__)


def short(value):
    """A value as text, cut where it is long."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}…"
