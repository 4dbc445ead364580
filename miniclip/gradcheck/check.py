"""Checking a gradient: does the backward pass agree with the forward pass?

Take any layer y = f(x) and a random cotangent c, one number for each number of y. Then

    F(x) = ⟨c, f(x)⟩ = Σ c∘f(x)            is one number, and
    backward(c)                            claims to be its gradient ∂F/∂x.

The claim is compared with slopes of the forward pass alone (numeric.py): of one entry after another by "complex",
"central" or "richardson"; by "adjoint" along one random direction u, where ⟨c, J u⟩ = ⟨Jᵀ c, u⟩ with J = ∂f/∂x
(Claerbout 1992). One complex step gives J u and backward(c) is Jᵀ c, so one evaluation sees all entries.

c is random, for with all ones much that is wrong gives 0 as it should: each row of a softmax sums to 1 and each row
of a layer norm to a constant. So are parameters: a backward that forgets a weight is right while that is 1.

    print(check(layer_norm, x, weight, bias))                                 # a layer
    print(check(lambda x: (x**2).sum(), x, gradient=lambda x: 2 * x))         # any function, any gradient
"""

import numpy as np

from .compare import ArrayCheck
from .contract import check_contract
from .evidence import SMALL
from .numeric import METHODS, Point, with_gradient
from .report import Report

SINGLE_TOLERANCE = 1e-3  # of a backward pass in float32: seven digits, of which deep norms take four


def check(
    f,
    *args,
    method="complex",
    gradient=None,
    dtype=np.float64,
    exclude=(),
    cotangent_seed=0,
    entries=32,
    tolerance=None,
    floor=1e-3,
):
    """Check the backward pass of `f` at `args` -> a `Report`, which also says what is probably wrong.

    f: a layer, y, backward = f(*args). backward(dy) gives one gradient for each differentiated argument, in
        order; the last may be a dict of those that remain, by name. The backward of a loss takes nothing: dy = 1.
    args: arrays, trees, anything. Every array of floats is differentiated, alone or in a tree, and must
        be float64; integers and settings are passed on.
    method: "complex", "central", "richardson" or "adjoint"; "one-sided" too, for comparison.
    gradient: for a plain f that returns one number and no backward: its gradient, as a function of the
        same arguments or as arrays, one for each argument.
    dtype: float32 runs the backward pass, and nothing else, in single precision.
    exclude: patterns of names not to differentiate: "mask", "*running_*" (see conv.batch_norm).
    cotangent_seed: decides the cotangent and which entries are looked at.
    entries: how many of each array are looked at one by one. An array with more is also checked whole,
        along a random direction; if that fails, the culprit is searched for. "adjoint" does only that.
    tolerance: the largest relative error that passes; by default the method's (METHODS), 1e-3 with float32.
    floor: smaller gradients are measured as if they were this large (times the largest of all, if that
        exceeds 1): one that is truly zero, as of attention's key bias, is not asked for its digits.

    Raises ValueError for an unknown method or dtype, an array to be differentiated that is not float64, is empty
    or not finite, when there is none, and with `gradient` for an f that does not return one number.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}.")
    if np.dtype(dtype) not in (np.float64, np.float32):
        raise ValueError(f"dtype is {np.dtype(dtype)}; choose float64 or float32.")
    point = Point(f if gradient is None else with_gradient(f, gradient), args, exclude, dtype)
    # A stream of its own: from the seed that x was drawn with would come c = x, a blind spot of every norm.
    rng = np.random.default_rng([cotangent_seed, *b"cotangent"])
    cotangent, gradients, problems = check_contract(point, rng, method)
    _, step, own_tolerance, subtracts = METHODS[method]
    default = own_tolerance if point.dtype == np.float64 else SINGLE_TOLERANCE
    report = Report(getattr(f, "__name__", "function"), method, tolerance or default, problems)
    floor *= max([1, *(np.abs(gradient).max() for gradient in gradients.values())])
    if subtracts and gradients:  # F has no more digits than these
        floor = max(floor, rounding_of(point, cotangent, rng, step / 100) / step / own_tolerance)
    for name in gradients:
        wrong = [row for row in report.rows if row.verdict == "WRONG"]
        array = ArrayCheck(point, cotangent, gradients, name, method, budget=SMALL if len(wrong) < 4 else 16)
        report.rows.append(array.compare(entries, rng, report.tolerance, floor))
    return report


def rounding_of(point, cotangent, rng, step):
    """How far F is from exact, measured: by its last bit, and by how rough it is along a line (Moré & Wild 2011).

    Third differences over steps this short are 0 for a smooth function, and else √20 times the error of one value;
    elsewhere F may be a few times rougher.
    """
    y = point.line({name: rng.standard_normal(point.leaves[name].size) for name in point.names})
    here = y(0.0)
    values = [float((cotangent * (y(k * step) - here)).sum()) for k in range(8)]
    rough = 4 * np.abs(np.diff(values, 3)).max() / np.sqrt(20)
    return max(np.finfo(float).eps * float(abs(cotangent * here).sum()), float(rough))


def v_curve(f, *args, gradient=None, methods=("one-sided", "central", "richardson", "complex"), exclude=(), seed=0):
    """How far each method is from the backward pass, at every step: {method: (steps (S,), errors (S,))}.

    The error is relative, along random directions through all arguments. That of a difference falls with the step,
    by its power h, h² or h⁶, until rounding, which rises as 1/h, takes over: a V whose lowest point is the best that
    the method can do. plots.v_curve draws it. Arguments and ValueError as in `check`; ValueError also where the layer
    breaks its contract (see contract.py).
    """
    point = Point(f if gradient is None else with_gradient(f, gradient), args, exclude)
    rng = np.random.default_rng([seed, *b"v curve"])
    cotangent, gradients, problems = check_contract(point, rng, "central")
    if problems:
        raise ValueError(f"there is no curve to draw: {' '.join(problems)}")
    directions = [{name: rng.standard_normal(g.size) for name, g in gradients.items()} for _ in range(3)]
    curves = {}
    for method in methods:
        derive, _, _, subtracts = METHODS[method]
        steps = 10.0 ** np.arange(-12 if subtracts else -30, 0.25, 0.25)
        errors = np.zeros((len(directions), len(steps)))
        with np.errstate(all="ignore"):  # a long step may leave what the function is made for
            for row, u in zip(errors, directions):
                claimed = sum(float(u[name] @ g.ravel()) for name, g in gradients.items())
                y = point.line(u)
                row[:] = [abs((cotangent * derive(y, h)).sum() - claimed) / abs(claimed) for h in steps]
        curves[method] = steps, np.median(errors, axis=0)
    return curves
