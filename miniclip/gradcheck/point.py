"""The point where a gradient is checked: the arguments, a cotangent, what backward claims, and slopes of the forward.

With y = f(x), F = ⟨c, y⟩ for the cotangent c, and u a direction, a slope is ∂F/∂t of F(x + t u) at t = 0: ⟨c, J u⟩.
"""

import warnings

import numpy as np

from .conventions.arrays import is_array, to_numpy
from .numeric import METHODS, Slope, best_slope, central, random_direction, roughness

try:
    from numpy.exceptions import ComplexWarning
except ImportError:  # NumPy before 1.25
    from numpy import ComplexWarning

POINTS, SPACING = 12, (1e-9, 2e-7, 1e-3)  # where rounding is measured


class NotAnalytic(Exception):
    """Why a forward pass gives no slope by a complex step."""


class Point:
    """A `Layer` at some arguments: {name: float64 array}.

    `.names` are the arrays to differentiate, `.cotangent` is c, all outputs in one vector where there are several,
    and `.gradients` {name: float64 array} what backward claims.
    """

    def __init__(self, layer, leaves, dtype=np.float64, cotangent=None, gradients=None):
        self.layer, self.dtype, self.cotangent, self.gradients = layer, np.dtype(dtype), cotangent, gradients or {}
        self.leaves = {name: np.asarray(leaf, np.float64) for name, leaf in leaves.items()}
        self.constants = {name: to_numpy(x) if is_array(x) else x for name, x in layer.constants.items()}
        self.shapes, self.rounding, self.size = None, None, 0.0

    @property
    def names(self):
        return list(self.gradients)

    def run(self, dtype=None):
        """Forward, in the precision that is checked or another -> the layer's run, to call backward on."""
        return self.layer.run({name: leaf.astype(dtype or self.dtype) for name, leaf in self.leaves.items()})

    def join(self, outputs):
        """The outputs as one array, of 64 bits or 128: the output itself where there is but one."""
        kind = complex if any(np.iscomplexobj(y) for y in outputs) else float
        self.shapes = [np.shape(y) for y in outputs]
        if len(outputs) == 1:
            return np.asarray(outputs[0], kind)
        return np.concatenate([np.asarray(y, kind).ravel() for y in outputs])

    def split(self, joined, dtype=None):
        """What `join` made one -> a list of arrays like the outputs."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = np.split(np.ravel(joined), np.cumsum(sizes)[:-1])
        return [part.reshape(shape).astype(dtype or self.dtype) for part, shape in zip(parts, self.shapes)]

    def pull(self, cotangent, dtype=None):
        """{name: gradient} as backward claims it at a cotangent, after a forward pass of its own."""
        run = self.run(dtype)
        return run.pull(self.split(cotangent, dtype))

    def replaced(self, leaves):
        """The point with other arrays in place of its own, and the same gradients."""
        point = Point(self.layer, {**self.leaves, **leaves}, self.dtype, self.cotangent, self.gradients)
        point.rounding, point.size = self.rounding, self.size  # alike, so near
        return point

    def moved(self, leaves):
        """The point with other arrays, and what backward claims there; None where that is not finite."""
        point = self.replaced(leaves)
        run = point.run()
        y = point.join(run.outputs)
        gradients = run.pull(point.split(self.cotangent))
        point.gradients = {name: np.asarray(gradients[name], float) for name in self.names}
        finite = np.isfinite(y).all() and all(np.isfinite(g).all() for g in point.gradients.values())
        return point if finite and y.shape == np.shape(self.cotangent) else None

    # ------------------------------------------------------------------------------------------ slopes

    def unit(self, name):
        """What a step of 1 is for an array: its largest |x|, or 1 where that is 0."""
        return float(np.abs(self.leaves[name]).max()) or 1.0

    def line(self, directions):
        """t -> y where each array is moved by t·u, for {name: u}. Complex where t is; else NaN where f raises.

        A complex t raises NotAnalytic where f takes no complex numbers, or drops the imaginary part.
        """

        def y(t):
            imaginary = isinstance(t, complex)
            kind = complex if imaginary else float
            leaves = {name: x.astype(kind) for name, x in self.leaves.items()}
            for name, u in directions.items():
                leaves[name] = leaves[name] + t * np.reshape(u, leaves[name].shape)
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", ComplexWarning)
                try:
                    joined = self.join(self.layer.run(leaves).outputs)
                except Exception as error:  # whatever a function of real numbers may raise elsewhere
                    if imaginary:
                        cause = error.__cause__ or error
                        raise NotAnalytic(f"takes no complex numbers ({type(cause).__name__}: {cause})") from None
                    return np.full(np.shape(self.cotangent), np.nan)
            if imaginary and not np.iscomplexobj(joined):
                raise NotAnalytic("turns complex numbers into real ones")
            return joined

        return y

    def image(self, directions, method, unit=1.0):
        """J u by a method, at its own step times `unit`, longer where the forward pass is rough."""
        step = METHODS[method].step
        if METHODS[method].subtracts:
            step = METHODS[method].step_at(self.relative_noise) * unit
        return METHODS[method].derive(self.line(directions), step)

    def slope(self, directions, method, unit=1.0):
        """⟨c, J u⟩ by a method."""
        return self.weigh(self.image(directions, method, unit))

    def best_slope(self, directions, unit=1.0, enough=0.0, start=1e-3):
        """⟨c, J u⟩ by central differences at the step that proves most -> `Slope`. Its step is that of u."""
        y = self.line(directions)
        difference = lambda h: self.weigh(central(y, h * unit))
        value, error, step = best_slope(difference, enough, self.noise / unit, start)
        return Slope(value, error, step * unit)

    def weigh(self, slope):
        """⟨c, slope⟩."""
        return float((self.cotangent * slope).sum())

    def measure_size(self, y):
        """How large the numbers are that F is a sum of, c∘y, or become over a unit where y is 0: their length."""
        moved = self.line(self.anywhere())(1e-3)
        return float(
            np.nanmax([np.linalg.norm(self.cotangent * y), 1e3 * np.linalg.norm(self.cotangent * (moved - y))])
        )

    def anywhere(self):
        """A random direction through all arrays, a unit or two of each."""
        rng = np.random.default_rng([*b"anywhere"])
        return {name: self.unit(name) * random_direction(rng, self.leaves[name].size) for name in self.names}

    @property
    def noise(self):
        """How far F = ⟨c, y⟩ is from exact, as measured."""
        if self.rounding is None:
            self.rounding = self.measure_rounding()
        return self.rounding[0]

    @property
    def relative_noise(self):
        """The noise in units of what F is made of."""
        return self.noise and self.rounding[1]

    def measure_rounding(self):
        """How far F is from exact: by its last bits, and by how rough it is along a line. -> absolute, relative.

        Roughness is measured at the shortest steps at which the output moves: where it rounds to float32, as on a
        staircase, shorter ones see nothing, or now and then a jump; and longer ones would meet kinks.
        """
        y = self.line(self.anywhere())
        for spacing in SPACING:
            values = np.stack([np.ravel(self.cotangent * y(k * spacing)) for k in range(POINTS)])
            values -= values[0]
            rough = float(np.nanmax([roughness(values.sum(1)), np.linalg.norm(roughness(values))]))
            moves = np.diff(values, axis=0) != 0
            if moves.any() and moves[:, moves.any(0)].mean() > 1 / 3:
                break
        noise = max(4 * np.finfo(float).eps * self.size, 3 * np.nan_to_num(rough))
        return noise, float(np.clip(noise / (4 * self.size or 1), np.finfo(float).eps, 1))
