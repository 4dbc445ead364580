"""Derivatives from the forward pass alone, and the point where they are taken.

Move from x by a step t along a direction u. The output there, y(t), is a function of one number, and its
slope at t = 0 is J u, with J = ∂y/∂x:

    one-sided    (y(h) − y(0)) / h                       error of order h
    central      (y(h) − y(−h)) / 2h                     error of order h²
    richardson   (64 D(h/4) − 20 D(h/2) + D(h)) / 45     error of order h⁶, D the central difference
    complex      Im y(ih) / h                            error of order h², and nothing is subtracted

A difference subtracts nearly equal numbers and loses digits as 1/h, so the first three have a best step. Richardson
(1911) combines central differences so that their errors of order h² and h⁴ cancel. The complex step (Squire & Trapp
1998) reads the slope off the imaginary part of y(ih) = y + i h J u − …, where it stands alone: h may be 1e-30, and h²
is nothing. The forward pass must be analytic: no abs, no conjugate, no length of a complex number.
"""

from fnmatch import fnmatchcase
from functools import wraps
from inspect import Parameter, signature
from typing import NamedTuple

import numpy as np

from ..backend import array_module
from ..tree import flatten, tree_map


def central(y, h):
    """(y(h) − y(−h)) / 2h."""
    return (y(h) - y(-h)) / (2 * h)


def richardson(y, h):
    """Central differences at h, h/2 and h/4, and what they tend to."""
    coarse, middle, fine = (central(y, h / k) for k in (1, 2, 4))
    return (64 * fine - 20 * middle + coarse) / 45


def complex_step(y, h):
    """Im y(ih) / h."""
    return y(1j * h).imag / h


class Method(NamedTuple):
    """How a slope is taken, at which step, and the largest relative error that passes."""

    derive: object
    step: float
    tolerance: float
    subtracts: bool = True


METHODS = {
    "complex": Method(complex_step, 1e-30, 1e-12, subtracts=False),
    "adjoint": Method(complex_step, 1e-30, 1e-12, subtracts=False),
    "central": Method(central, 3e-6, 1e-7),
    "richardson": Method(richardson, 3e-4, 1e-8),
    "one-sided": Method(lambda y, h: (y(h) - y(0.0)) / h, 1e-8, 1e-4),
}


def is_float(leaf):
    """Whether a leaf of the arguments is an array of floats."""
    return hasattr(leaf, "dtype") and leaf.dtype.kind == "f"


class Point:
    """A function and its arguments: the point where its gradient is checked.

    `.leaves` {name: float64 array} are the arrays of floats, "x" or "p.c_fc.weight"; `.names` those to differentiate;
    `.constants` everything else. With dtype float32 the backward pass runs in that precision at the same numbers;
    slopes are always taken in float64. Raises ValueError as `check` does.
    """

    def __init__(self, f, args, exclude=(), dtype=np.float64):
        arguments = flatten(name_arguments(f, args))
        self.f, self.args, self.dtype = f, args, np.dtype(dtype)
        self.leaves = {name: leaf for name, leaf in arguments.items() if is_float(leaf)}
        self.constants = {name: leaf for name, leaf in arguments.items() if not is_float(leaf)}
        self.names = [name for name in self.leaves if not any(fnmatchcase(name, p) for p in exclude)]
        if not self.names:
            raise ValueError("no argument is an array of floats: there is nothing to differentiate.")
        for name in self.names:
            leaf = self.leaves[name]
            if leaf.dtype != np.float64 or not leaf.size or not array_module(leaf).isfinite(leaf).all():
                raise ValueError(f"{name}, {leaf.dtype} {leaf.shape}, must be float64, not empty, and finite.")
        self.leaves = {name: leaf.astype(self.dtype).astype(np.float64) for name, leaf in self.leaves.items()}

    def copies(self, dtype=None):
        """New copies of the arrays of floats, in the precision that is tested or another: {name: array}."""
        return {name: array_module(leaf).array(leaf, dtype or self.dtype) for name, leaf in self.leaves.items()}

    def call(self, leaves):
        """y and backward, with these arrays, in the order of `.leaves`, as arguments."""
        arrays = iter(leaves.values())
        y, backward = self.f(*tree_map(lambda leaf: next(arrays) if is_float(leaf) else leaf, self.args))
        return array_module(y).asarray(y), backward

    def line(self, directions):
        """t -> y where each array is moved by t·u, for {name: u (size,)}. Complex where t is."""

        def y(t):
            leaves = self.copies(np.result_type(t, np.float64))
            for name, u in directions.items():
                leaves[name] = leaves[name] + t * array_module(leaves[name]).asarray(u).reshape(leaves[name].shape)
            return self.call(leaves)[0]

        return y

    def named(self, gradients):
        """What backward returned -> {name: gradient}, less what is excluded."""
        expected = list(dict.fromkeys(name.split(".")[0] for name in self.names))
        *first, last = gradients if isinstance(gradients, tuple) else (gradients,)
        if not isinstance(last, dict) or not last.keys() & set(expected[len(first) :]):
            first, last = [*first, last], {}  # not a dict by name, but one more in order
        named = flatten(dict(zip([*expected, "one more"], first)) | last)
        return {name: g for name, g in named.items() if name in self.names or name not in self.leaves}


def name_arguments(f, args):
    """{name: argument} as the signature of f has them; those of *xs are "xs0", "xs1" …"""
    try:
        parameters = signature(f).parameters.values()
    except ValueError:  # some built-in functions have none
        parameters = [Parameter("x", Parameter.VAR_POSITIONAL)]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    more = len(args) - len(names)
    names += [f"{p.name}{i}" for p in parameters if p.kind is p.VAR_POSITIONAL for i in range(more)]
    if len(args) > len(names):
        raise ValueError(f"{getattr(f, '__name__', 'the function')} takes {len(names)} arguments, not {len(args)}.")
    return dict(zip(names, args))


def with_gradient(f, gradient):
    """A scalar function and its gradient as a layer: y, backward.

    gradient: a function of the same arguments, or its value: one array, or one for each argument.
    """

    @wraps(f)
    def layer(*args):
        def backward():
            value = gradient(*args) if callable(gradient) else gradient
            return tuple(value) if isinstance(value, list) and len(args) > 1 else value

        return f(*args), backward

    return layer
