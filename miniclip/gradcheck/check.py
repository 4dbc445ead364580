"""Checking a gradient: does the backward pass agree with the forward pass?

Take any layer y = f(x) and a random cotangent c, one number for each number of y. Then

    F(x) = ⟨c, f(x)⟩ = Σ c∘f(x)            is one number, and
    backward(c)                            claims to be its gradient ∂F/∂x.

The claim is compared with slopes of the forward pass alone (numeric.py): of one entry after another, and of all
entries of an array along one random direction u, where ⟨c, J u⟩ = ⟨Jᵀ c, u⟩ with J = ∂f/∂x (Claerbout 1992). One
complex step gives J u and backward(c) is Jᵀ c, so one evaluation sees all entries.

c is random, for with all ones much that is wrong gives 0 as it should: each row of a softmax sums to 1 and each row
of a layer norm to a constant. So are parameters: a backward that forgets a weight is right while that is 1.

    print(check(layer_norm, x, weight, bias))                                 # y, backward = layer_norm(x, …)
    print(check(forward, x, w, b, backward=backward))                         # out, cache and dx, dw, db
    print(check(Linear(4, 5), x))                                             # an object with params and grads
    print(check(lambda x: (x**2).sum(), x, gradient=lambda x: 2 * x))         # any function, any gradient
"""

import numbers

import numpy as np

from .conventions import as_layer
from .numeric import METHODS
from .refusals import CannotCheck
from .second import first_order, second_order
from .settle import report_on


def check(
    f,
    *args,
    method="auto",
    backward=None,
    gradient=None,
    wrt=None,
    exclude=(),
    dtype=np.float64,
    order=1,
    hessian=None,
    cotangent_seed=0,
    entries=32,
    tolerance=None,
    floor=1e-3,
    **kwargs,
):
    """Check the backward pass of `f` at `args` -> a `Report`, true where it is right, which also says what is wrong.

    f: a layer, y, backward = f(*args), where backward(dy) gives one gradient for each differentiated argument, in
        order or by name (that of a loss takes nothing); or loss, gradients = f(*args); or an object or a class with
        forward and backward; or a function or module of torch. See conventions.py for all that is taken.
    args, kwargs: what f takes: arrays, trees, anything. Every array of floats is differentiated, alone or in a tree,
        and a Python float where backward gives its gradient; integers and settings are passed on.
    method: "auto" takes the complex step where the forward pass is analytic, as a central difference confirms for
        every array, and else central differences. "complex", "central", "richardson" or "adjoint" (along one
        random direction alone); "one-sided" too, for comparison.
    backward: where f returns out, cache: the function that takes dout, cache and gives the gradients.
    gradient: for a plain f that returns one number and no backward: its gradient, as a function of the
        same arguments or as arrays, one for each argument.
    wrt, exclude: patterns of names to differentiate, or not to: ["w", "*bias"], ["mask", "*running_*"].
    dtype: float32 runs the backward pass, and nothing else, in single precision.
    order: 2 checks the gradient of the gradient as well (see second.py). hessian: that of a plain f, as `gradient`.
    cotangent_seed: decides the cotangent and which entries are looked at.
    entries: how many of each array are looked at one by one. An array with more is also checked whole,
        along a random direction; if that fails, the culprit is searched for. "adjoint" does only that.
    tolerance: the largest relative error that passes; by default the method's (METHODS), 1e-3 with float32.
    floor: gradients that are smaller than this part of the largest of all, each times the size of its array, are
        measured as if they were so large: one that is truly zero, as of attention's key bias, is not asked for digits.

    Raises CannotCheck, a ValueError, for an unknown method or dtype, for what is no layer or no array of finite
    numbers, when there is nothing to differentiate, and where f or backward raises.
    """
    if method != "auto" and method not in METHODS:
        raise CannotCheck(f"method is {method!r}; choose one of auto, {', '.join(METHODS)}.")
    if dtype not in (np.float64, np.float32, "float64", "float32", np.dtype(np.float64), np.dtype(np.float32)):
        raise CannotCheck(f"dtype is {getattr(dtype, '__name__', dtype)}; choose float64 or float32.")
    if order not in (1, 2):
        raise CannotCheck(f"order is {order!r}; choose 1 or 2.")
    if backward is not None and gradient is not None:
        raise CannotCheck("backward= and gradient= are both given: one of them says what the gradient is.")
    for name, value, kind, least in (
        ("entries", entries, numbers.Integral, 1),
        ("cotangent_seed", cotangent_seed, numbers.Integral, 0),
        ("tolerance", 0 if tolerance is None else tolerance, numbers.Real, 0),
        ("floor", floor, numbers.Real, 0),
    ):
        if not isinstance(value, kind) or not value >= least:
            what = "an integer" if kind is numbers.Integral else "a number"
            raise CannotCheck(f"{name} is {value!r}; it must be {what} of at least {least}.")
    first, slope = first_order(f, gradient) if order == 2 else (f, gradient)
    layer = as_layer(first, args, kwargs, backward, slope, exclude, wrt)
    options = {"method": method, "dtype": np.dtype(dtype), "entries": entries, "tolerance": tolerance, "floor": floor}
    report = report_on(layer, f, cotangent_seed, **options)
    if order == 2 and report.ok:
        layer = second_order(f, args, kwargs, gradient, hessian, exclude, wrt, cotangent_seed)
        report = report_on(layer, f, cotangent_seed, **options)
    return report


def assert_gradients(f, *args, **options):
    """`check`, for tests -> the `Report`. Raises AssertionError with its table where the gradient is not right."""
    report = check(f, *args, **options)
    if not report.ok:
        raise AssertionError(f"the gradient could not be shown to be right.\n{report}")
    return report
