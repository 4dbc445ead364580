"""The command `python -m miniclip gradcheck`: is a backward pass right?"""

import sys

GRADCHECK = (
    ("targets", {"nargs": "*", "metavar": "FILE.py::NAME"}, "a function, a class or an object in a file of yours; "
     "FILE.py alone is all in it that has inputs, NAME_inputs(rng) (default: the layers of the library)"),
    ("--inputs", {"metavar": "FILE"}, "its arguments: FILE.npz, or FILE.py::function"),
    ("--shape", {"action": "append", "metavar": "x=4x5"}, "or their shapes, for random numbers; y=4:int<10 for "
     "integers; may be repeated"),
    ("--backward", {"metavar": "NAME"}, "its backward in the file (default: NAME_backward)"),
    ("--gradient", {"metavar": "NAME"}, "the gradient of a function that returns one number"),
    ("--wrt", {"action": "append", "metavar": "NAME"}, "differentiate only this argument; may be repeated"),
    ("--exclude", {"action": "append", "metavar": "NAME"}, "do not differentiate this one; may be repeated"),
    ("--layer", {"action": "append", "metavar": "NAME"}, "of the library only this one, in full, or '*resnet*'; may be "
     "repeated"),
    ("--method", {"action": "append", "choices": ("auto", "complex", "central", "richardson", "adjoint")},
     "may be repeated (default: auto for a file; complex, central, adjoint for the library)"),
    ("--dtype", {"choices": ("float64", "float32"), "default": "float64"},
     "precision of the backward pass (default: float64)"),
    ("--seed", {"type": int, "default": 0}, "decides sizes, numbers and cotangents (default: 0)"),
    ("--plot", {"metavar": "FILE"}, "draw error against step for one --layer, as PNG, PDF or SVG"),
    ("--json", {"action": "store_true"}, "print JSON"),
)  # fmt: skip


def run_gradcheck(options):
    """gradcheck: backward passes, the library's or those in a file, against forward passes. 1 if one is wrong."""
    from ..gradcheck import run_command

    try:
        return run_command(options)
    except KeyboardInterrupt:
        print("miniclip: interrupted.", file=sys.stderr)
        return 130
