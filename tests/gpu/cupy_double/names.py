"""What CuPy 14 has: its names, the parameters of its functions and the types of its ufuncs, as in cupy_names.txt.

    python tests/gpu/cupy_double/names.py       writes that file anew

where CuPy and ml_dtypes are installed; no graphics card is needed.
"""

import functools
import inspect
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("cupy_names.txt")


def read_names(path=PATH):
    """{namespace: {name: None, or its parameters as "a, axis=, *, copy=", or a ufunc's types as ["ff->f", …]}}"""
    spaces, names = {}, None
    for word in path.read_text(encoding="utf-8").split():
        if word.startswith("["):
            names = spaces[word.strip("[]")] = {}
            continue
        name, bracket, parameters = word.partition("(")
        if bracket:
            names[name] = parameters[:-1].replace(",", ", ")
        else:
            name, colon, types = word.partition(":")
            names[name] = types.split(",") if colon else None
    return spaces


def survey(cupy):
    """The same, of an installed CuPy, with ml_dtypes beside it for bfloat16; no graphics card is needed."""
    import cupyx

    spaces = {"version": {cupy.__version__: None}}
    for name in (
        "cupy",
        "cupy.random",
        "cupy.linalg",
        "cupy.lib.stride_tricks",
        "cupy.cuda",
        "cupy.cuda.memory",
        "cupy.cuda.runtime",
        "cupyx",
    ):
        module = functools.reduce(getattr, name.split(".")[1:], cupyx if name == "cupyx" else cupy)
        spaces[name] = {key: _parameters(getattr(module, key)) for key in dir(module) if key[0] != "_"}
    kinds = {
        "ndarray": cupy.ndarray,
        "ufunc": cupy.ufunc,
        "RawModule": cupy.RawModule,
        "RawKernel": cupy.RawKernel,
        "random.Generator": cupy.random.Generator,
        "cuda.MemoryPointer": cupy.cuda.MemoryPointer,
    }
    for name in ("Stream", "Event", "Device", "MemoryPool", "PinnedMemoryPool"):
        kinds[f"cuda.{name}"] = getattr(cupy.cuda, name)
    for name, kind in kinds.items():
        spaces[f"cupy.{name}"] = {key: _parameters(getattr(kind, key)) for key in dir(kind) if key[0] != "_"}
    spaces["types"] = {"where": cupy._sorting.search._where_ufunc.types, "clip": cupy._core._routines_math.clip.types}
    return spaces


def _parameters(thing):
    if type(thing).__name__ == "ufunc":
        return thing.types
    if not callable(thing) or isinstance(thing, type | np.ufunc):
        return None
    try:
        signature = inspect.signature(thing)
    except (ValueError, TypeError):  # compiled: the first line of its docstring tells
        line = (thing.__doc__ or "").strip().split("\n")[0]
        inner = line.partition("(")[2].rpartition(")")[0]
        if not line.partition("(")[2]:
            return None
        words = [part.split("=")[0].split()[-1] + "=" * ("=" in part) for part in inner.split(",") if part.strip()]
        return ", ".join(words)
    text, after = [], False
    for p in signature.parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            text.append(f"*{p.name}")
            after = True
        elif p.kind is p.VAR_KEYWORD:
            text.append(f"**{p.name}")
        else:
            if p.kind is p.KEYWORD_ONLY and not after:
                text.append("*")
                after = True
            text.append(p.name + "=" * (p.default is not p.empty))
    return ", ".join(text)


def write_names(spaces, width=118):
    """The text of cupy_names.txt."""
    lines = []
    for space, names in spaces.items():
        lines += ["", f"[{space}]"]
        for name, what in names.items():
            word = name + (
                f"({what.replace(' ', '')})" if isinstance(what, str) else ":" + ",".join(what) if what else ""
            )
            if len(lines[-1]) + len(word) >= width or lines[-1].startswith("["):
                lines.append(word)
            else:
                lines[-1] += " " + word
    return "\n".join(lines[1:]) + "\n"


NAMES = read_names() if PATH.exists() else {}


@functools.cache
def signature_of(space, name):
    parameters = NAMES.get(space, {}).get(name)
    if not isinstance(parameters, str):
        return None
    parameters = parameters.removeprefix("self, ") if parameters != "self" else ""
    return inspect.signature(eval(f"lambda {parameters.replace('=', '=None')}: 0"))


def must_fit(space, name, args, options):
    """TypeError where CuPy's function has no such parameters."""
    signature = signature_of(space, name)
    if signature is not None:
        try:
            signature.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{space}.{name}: {error}; CuPy's has {', '.join(signature.parameters)}.") from None


def missing(space, name):
    """What is raised for a name that is not here: louder where CuPy has it."""
    if name in NAMES.get(space, {}):
        return NotImplementedError(f"CuPy has {space}.{name}, this double has not: write it in tests/gpu/cupy_double/.")
    return AttributeError(f"CuPy 14 has no {space}.{name}.")


def raise_(error):
    raise error


if __name__ == "__main__":
    import cupy as installed

    PATH.write_text(write_names(survey(installed)), encoding="utf-8")
