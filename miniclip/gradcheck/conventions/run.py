"""One call of a layer: forward at copies of its arrays, backward with cotangents, and what either wrote to."""

import numpy as np

from ..refusals import CannotCheck
from .arguments import is_statistic
from .arrays import described, like, to_numpy
from .conventions import Call, read_result
from .naming import to_array
from .object_arrays import Place, gradient_at
from .objects import Subject
from .torch_layer import track


class Run:
    """One forward pass. `.outputs`: its float or complex outputs, `.output_names` "y" or "y0", "y1" … or their keys."""

    def __init__(self, layer, leaves, copy=True):
        self.layer, self.leaves, self.copy = layer, leaves, copy
        self.cotangents, self.tensors, self.pulls = {}, {}, 0
        try:
            self.forward()
        except CannotCheck as refused:
            if not self.tensors or layer.first is not None:
                raise
            layer.is_tracked = False  # some code cannot take tensors that autograd follows
            try:
                self.forward()
            except CannotCheck:
                raise refused from refused.__cause__

    def forward(self):
        """Hand over new arguments, run the user's forward pass, and understand what it returned."""
        layer, functions = self.layer, self.layer.functions
        fixed = layer.settings  # stay floats where the others become complex
        arrays = {name: array.real if name in fixed else array for name, array in self.leaves.items()}
        given = layer.arguments.given
        self.values = {name: like(array, given[name]) if self.copy else array for name, array in arrays.items()}
        self.subject, (forward, backward, gradient) = None, functions[1:4]
        if layer.subject:
            self.subject, (forward, backward, gradient) = layer.subject.copy(self.values)
        self.tensors = track(self.values, layer.tracked) if layer.is_tracked else {}
        again = lambda: layer.arguments.build(self.values)
        args, kwargs = again()
        self.copies = [args, kwargs, self.subject]
        result, after = layer.random.call(lambda: self.guarded(forward, args, kwargs))
        self.drawn = [after]  # the states of what is random, after each call
        arguments = layer.arguments.defaults | dict(zip(layer.arguments.names, [*args, *kwargs.values()]))
        call = Call(layer.name, arguments, again, backward, gradient, functions.is_explicit, self.subject, self.tensors)
        self.read = read_result(result, call)
        self.is_loss, self.may_omit = self.read.is_loss, self.read.may_omit
        self.outputs, self.output_names = self.read.outputs.arrays, self.read.outputs.names
        layer.latest, self.pulls = self, 0

    def guarded(self, f, args, kwargs):
        """f(*args, **kwargs); what it raises becomes CannotCheck."""
        try:
            return f(*args, **kwargs)
        except CannotCheck:
            raise
        except Exception as error:  # whatever the user's code may raise
            raise self.refusal(self.layer.name, error) from error

    def refusal(self, what, error):
        """The sentence about an exception of the user's code."""
        shown = str(error).strip().splitlines()
        because = f": {shown[0][:200].rstrip('.')}" if shown else ""
        return CannotCheck(
            f"{what} raised {type(error).__name__}{because}; it was handed {self.layer.handed(self.leaves)}."
        )

    def pull(self, cotangents=()):
        """The gradients that backward claims, for NumPy arrays like `.outputs` -> {name: NumPy array or None}.

        A loss takes no cotangents. Names that are no input are kept, and where a gradient is missing, so is its name.
        Where forward and backward share an object or a cache that is not handed on, forward has always run just before.
        """
        if self.pulls and self.subject is not None or self.read.is_pair and self.layer.latest is not self:
            self.forward()
        names = [] if self.is_loss else [f"d{name}" for name in self.output_names]
        self.before = {name: np.array(c) for name, c in zip(names, cotangents)}
        try:
            returned = self.backward()
        except CannotCheck:
            if not self.pulls:
                raise
            self.forward()  # some backward passes can run only once
            returned = self.backward()
        self.pulls += 1
        self.returned = returned
        found = self.layer.namer.name(returned)
        if isinstance(self.layer.subject, Subject):
            found |= self.gradients_held(returned)
        return found

    def backward(self):
        """What the user's backward returns for new copies of the cotangents."""
        self.cotangents = {name: self.read.outputs.like(i, c) for i, (name, c) in enumerate(self.before.items())}
        try:
            # Backward goes on from where forward has come; a gradient= draws the same numbers from the start.
            start = self.drawn[0] if self.layer.functions.gradient is None else None
            pull = lambda: self.read.pull(list(self.cotangents.values()))
            returned, after = self.layer.random.call(pull, start)
            self.drawn.append(after)
        except CannotCheck:
            raise
        except Exception as error:  # whatever the user's code may raise
            shapes = ", ".join(f"{name} {described(c)}" for name, c in self.cotangents.items())
            which = "backward" if self.layer.functions.gradient is None else "gradient"
            raise self.refusal(f"the {which} of {self.layer.name}{shapes and f', at {shapes},'}", error) from error
        return returned

    def gradients_held(self, returned):
        """The gradients that an object keeps, of its parameters and, where backward returns nothing, of its input."""
        found = self.layer.subject.gradients(self.subject, self.leaves if self.read.takes_step else None)
        if returned is None:
            for name in self.layer.arguments.tops:
                held = gradient_at(self.subject, Place((f".{name}",), None))
                if name in self.leaves and held is not None:
                    found[name] = to_array(held)
        return found

    def written(self):
        """The names of what was handed over, arguments and cotangents, that the user's code wrote to."""
        names = [name for name in self.values if not is_statistic(name)]  # a norm may keep these
        if self.read.takes_step:
            names = [name for name in names if name not in self.layer.subject.parameters]
        pairs = [(name, self.leaves[name], self.values[name]) for name in names]
        pairs += [(name, self.before[name], handed) for name, handed in self.cotangents.items()]
        return [name for name, before, after in pairs if not same_numbers(before, to_numpy(after))]


def same_numbers(before, after):
    """Whether two arrays hold the same bits, where they are of one dtype, or else the same numbers."""
    if before.dtype == after.dtype:
        return before.tobytes() == after.tobytes()
    return np.array_equal(before, after, equal_nan=True)
