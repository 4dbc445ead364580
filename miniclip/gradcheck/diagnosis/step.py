"""One step of a forward pass that was traced, and how its slope can be changed (see tracing.py)."""

from dataclasses import dataclass

import numpy as np

STEP = 1e-30  # of the slope, as an imaginary part: its square is nothing


@dataclass
class Step:
    """One call of a function of NumPy by the forward pass, of complex arrays: the slope is their imaginary part."""

    site: tuple  # where it stands in the source: the same in each round of a loop
    round: int  # how often it has been called before
    name: str
    call: object  # of the inputs
    inputs: list
    result: np.ndarray
    trace: object  # that it is a step of

    @property
    def y(self):
        return self.result.real

    @property
    def slope(self):
        return self.result.imag

    @property
    def moving(self):
        """The numbers of the inputs that depend on the array that is differentiated."""
        return [i for i, x in enumerate(self.inputs) if np.iscomplexobj(x) and np.any(x.imag)]

    @property
    def reduces(self):
        """Whether it is a sum, a mean, a norm: of one array, of which it gives fewer numbers."""
        return len(self.inputs) == 1 and self.result.size < np.size(self.inputs[0])

    def still(self):
        """The result, without its slope."""
        return self.result.real + 0j

    def with_slope(self, slope):
        """The result, with another slope."""
        return self.result.real + 1j * np.broadcast_to(slope, self.result.shape)

    def without(self, i):
        """The result where input i does not move."""
        return self.call(*(np.real(x) + 0j if k == i else x for k, x in enumerate(self.inputs)))

    def part(self, i, others=()):
        """The slope that comes by way of input i alone; others: {k: value} in place of other inputs."""
        others = dict(others)
        return self.call(*(x if k == i else np.real(others.get(k, x)) for k, x in enumerate(self.inputs))).imag

    def instead(self, i, slope):
        """The result where the slope that comes by input i is another."""
        return self.with_slope(self.result.imag - self.part(i) + slope)
