"""Arrays of any kind: to NumPy and back, for NumPy, CuPy, torch, and Python's own numbers and lists of them."""

import sys

import numpy as np

from ...backend import array_module

NUMBERS = (int, float, complex)


def torch_module():
    """torch where it has been imported, else None: whoever hands over tensors has imported it."""
    return sys.modules.get("torch")


def is_tensor(x):
    """Whether x is a tensor of torch, which is not imported for the question."""
    torch = torch_module()
    return torch is not None and hasattr(torch, "Tensor") and isinstance(x, torch.Tensor)


def is_number(x):
    """Whether x is one number: Python's, NumPy's, or an array or tensor without axes."""
    return isinstance(x, NUMBERS) or is_array(x) and len(x.shape) == 0


def is_array(x):
    """Whether x is an array of any library, or a number of NumPy's."""
    return is_tensor(x) or hasattr(type(x), "dtype") and isinstance(x.shape, tuple)


def is_number_list(x):
    """Whether x is a regular list of numbers, nested or not, of which at least one is no integer."""
    if type(x) is not list or not all(type(n) in NUMBERS or isinstance(n, np.number) for n in numbers_in(x)):
        return False
    try:
        return bool(x) and np.array(x).dtype.kind in "fc"
    except ValueError:  # rows of different lengths
        return False


def numbers_in(items):
    """What stands in lists of lists, in order."""
    for item in items:
        if isinstance(item, (list, tuple)):
            yield from numbers_in(item)
        else:
            yield item


def kind(x):
    """The letter of NumPy for what the numbers of an array are: f floats, c complex, i and u integers, b, O, U …

    Also of Python's numbers and of regular lists of floats; "masked" of a masked array, "" of all else.
    """
    if type(x) is np.ndarray:
        return x.dtype.kind
    if is_tensor(x):
        return "c" if x.is_complex() else "f" if x.is_floating_point() else "i"
    if isinstance(x, np.ma.MaskedArray):
        return "masked"
    if is_array(x):
        return "f" if x.dtype.name == "bfloat16" else x.dtype.kind
    return np.array(x).dtype.kind if type(x) in (*NUMBERS, bool) or is_number_list(x) else ""


def is_float(x):
    """Whether x can be differentiated: an array of floats, a Python float, or a regular list of floats."""
    return kind(x) == "f"


def to_numpy(x):
    """Any array, number or list of numbers as a NumPy array on the CPU, not copied where it is one. dtype as it is."""
    if type(x) is np.ndarray:
        return x
    if is_tensor(x):
        x = x.detach().cpu().resolve_conj().resolve_neg()
        return (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()
    return np.asarray(x) if array_module(x) is np else x.get()


def like(value, given):
    """A NumPy array as a new array of the kind that was given, in the dtype of `value`; float and complex too."""
    if type(given) is np.ndarray:
        return np.array(value)
    if type(given) in NUMBERS:
        return complex(value) if value.dtype.kind == "c" else float(value)
    if isinstance(given, np.generic):
        return value.dtype.type(value[()])
    if is_tensor(given):
        return torch_module().tensor(np.array(value), device=given.device)
    new = np.array(value)
    if isinstance(given, np.matrix):
        return new.view(np.matrix)
    return new if array_module(given) is np else array_module(given).asarray(new)


def described(x):
    """What a reader needs to know of an argument: "float64 (3, 4)", "a dict with weight, bias", "'train'"."""
    if is_array(x):
        return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" + (" tensor" if is_tensor(x) else "")
    if isinstance(x, dict):
        keys = ", ".join(map(str, list(x)[:6]))
        return f"a dict with {keys}" if x else "an empty dict"
    if isinstance(x, (list, tuple)):
        kinds = list(dict.fromkeys(type(item).__name__ for item in x))
        return f"a {type(x).__name__} of {len(x)} ({', '.join(kinds[:3])})" if x else f"an empty {type(x).__name__}"
    if x is None or isinstance(x, NUMBERS):
        return repr(x)
    if isinstance(x, str):
        return repr(x if len(x) < 30 else x[:27] + "…")
    if callable(x) and hasattr(x, "__name__"):
        return f"the function {x.__name__}"
    return f"an object of class {type(x).__name__}"
