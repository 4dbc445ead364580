"""The whole Jacobian ∂y/∂x of a layer: as its backward pass claims it, beside that of its forward pass.

Backward multiplies a cotangent by Jᵀ, so a cotangent that is 1 in one place and 0 elsewhere gives one row of J. Moving
one entry of x alone gives one column. A check looks at a mixture of the rows; here each of them can be seen:

    both = jacobians(softmax, x)["x"]
    both.claimed, both.numeric           (entries of y, entries of x)
    plots.jacobian(both)                 a figure
"""

from dataclasses import dataclass

import numpy as np

from .confirm import not_analytic
from .contract import check_contract
from .conventions import as_layer
from .html import escape, picture_html, picture_of
from .numeric import METHODS
from .point import NotAnalytic
from .refusals import CannotCheck
from .report import apart
from .second import second_order

MOST = 4096  # entries of the output, and of an array
ROUNDING = 1e-6  # relative errors below which two numbers are not worth showing


@dataclass(repr=False)
class Jacobian:
    """∂y/∂x in float64: a row for each entry of y and a column for each entry of x, both in the order of ravel."""

    function: str
    claimed: np.ndarray  # (M, size), by backward
    numeric: np.ndarray  # (M, size), by forward
    shape_out: tuple  # of y; of several outputs, one after the other, (M,)
    shape_in: tuple  # of x
    names: tuple  # of y and x
    method: str  # that gave `numeric`

    @property
    def error(self):
        """The largest |claimed − numeric| over the largest of either."""
        largest = max(np.abs(self.claimed).max(), np.abs(self.numeric).max())
        return float(np.abs(self.claimed - self.numeric).max() / (largest or 1.0))

    @property
    def worst(self):
        """(row, column) where the two are farthest apart."""
        apart = np.abs(self.claimed - self.numeric)
        return tuple(int(i) for i in np.unravel_index(np.argmax(apart), apart.shape))

    def entry(self, row, column):
        """What stands in one place: "∂y[0, 1]/∂x[2]"."""

        def named(name, i, shape):
            return f"∂{name}{list(map(int, np.unravel_index(i, shape))) if shape else ''}"

        return f"{named(self.names[0], row, self.shape_out)}/{named(self.names[1], column, self.shape_in)}"

    def __str__(self):
        y, x = (" × ".join(map(str, shape)) or "one number" for shape in (self.shape_out, self.shape_in))
        what = f"∂{self.names[0]} ({y}) / ∂{self.names[1]} ({x})"
        text = f"{self.function}: {what}, largest relative error {self.error:.1e}"
        if not self.error > ROUNDING:
            return text
        claimed, numeric = apart(self.claimed[self.worst], self.numeric[self.worst])
        return f"{text}: {self.entry(*self.worst)} is {claimed} by backward and {numeric} by {self.method}"

    __repr__ = __str__

    def _repr_html_(self):
        picture = picture_of(self.claimed, self.numeric, self.worst)
        return f"<div>{escape(str(self))}</div>{picture_html(picture, f'by {self.method}') if picture else ''}"


def jacobians(
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
    **kwargs,
):
    """The Jacobian of f at `args` with respect to every array: {name: `Jacobian`}.

    All arguments as `check` takes them. A loss has one row, its gradient; with order=2 it is the Hessian that is shown.
    method: of the numeric one; "auto" takes complex steps where they can be believed, and else central differences.
    It takes a backward pass for each entry of y and one or two forward passes for each entry of x.

    Raises CannotCheck as `check` does; where y, or an array, has more than 4,096 entries; where something is random or
    not finite; where a gradient is missing or of no use; and where `method` is "complex" and the forward pass is not
    analytic. An array for which backward gives None is left out.
    """
    if method != "auto" and method not in METHODS:
        raise CannotCheck(f"method is {method!r}; choose one of auto, {', '.join(METHODS)}.")
    if order == 2:
        layer = second_order(f, args, kwargs, gradient, hessian, exclude, wrt, cotangent_seed)
    else:
        layer = as_layer(f, args, kwargs, backward, gradient, exclude, wrt)
    rng = np.random.default_rng([cotangent_seed, *b"cotangent"])
    point, problems = check_contract(layer, rng, np.dtype(dtype))
    if set(layer.names) - {*point.gradients, *point.without} or any(not problem.wrong for problem in problems):
        raise CannotCheck(f"there is no Jacobian to show: {' '.join(problems)}")
    refuse_size(point)
    claims, reasons = claimed_jacobians(point), not_analytic(point)
    outputs, shape = ", ".join(point.run().output_names), np.shape(point.cotangent)
    found = {}
    for name in point.names:
        how = method if method != "auto" else "central" if reasons[name] else "complex"
        if not METHODS[how].subtracts and reasons[name]:
            raise CannotCheck(f"no complex step shows this Jacobian, for the forward pass {reasons[name]}.")
        numeric, shape_in = numeric_jacobian(point, name, how), point.leaves[name].shape
        found[name] = Jacobian(layer.name, claims[name], numeric, shape, shape_in, (outputs, name), how)
    return found


def refuse_size(point):
    """Raise CannotCheck where a Jacobian is too large to be looked at."""
    sizes = {"the output": np.size(point.cotangent)} | {name: point.leaves[name].size for name in point.names}
    for name, size in sizes.items():
        if size > MOST:
            raise CannotCheck(
                f"{name} has {size:,} entries, and a Jacobian is shown of up to {MOST:,}: take a smaller example, or "
                f"choose arrays, wrt=[…]."
            )


def claimed_jacobians(point):
    """{name: (M, size)} by backward at unit cotangents; of a loss by backward alone."""
    if point.layer.is_loss:
        return {name: gradient.reshape(1, -1) for name, gradient in point.gradients.items()}
    shape, run = np.shape(point.cotangent), point.run()
    rows = {name: [] for name in point.names}
    for unit in np.eye(np.size(point.cotangent)):
        gradients = run.pull(point.split(unit.reshape(shape)))
        for name, found in rows.items():
            found.append(np.ravel(gradients[name]).astype(float))
    return {name: np.stack(found) for name, found in rows.items()}


def numeric_jacobian(point, name, method):
    """(M, size) by moving one entry of an array after another."""
    units = np.eye(point.leaves[name].size)
    try:
        columns = [point.image({name: unit}, method, point.unit(name)).ravel() for unit in units]
    except NotAnalytic as reason:
        raise CannotCheck(f"no complex step shows this Jacobian, for the forward pass {reason}.") from None
    return np.stack(columns, axis=1)
