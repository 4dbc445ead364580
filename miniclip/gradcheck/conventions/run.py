"""One call of a layer: forward at copies of its arrays, backward with cotangents, and what either wrote to."""

import numpy as np

from ..refusals import CannotCheck, raised
from .arguments import is_statistic
from .arrays import described, like, to_numpy
from .conventions import Call, read_result
from .naming import to_array
from .object_arrays import Place, gradient_at
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
        layer, functions, arguments = self.layer, self.layer.functions, self.layer.arguments
        fixed = layer.settings  # stay floats where the others become complex
        arrays = {name: array.real if name in fixed else array for name, array in self.leaves.items()}
        self.values = {name: like(a, arguments.given[name]) if self.copy else a for name, a in arrays.items()}
        self.subject, (forward, backward, gradient) = None, functions[1:4]
        if layer.subject:
            self.subject, (forward, backward, gradient) = layer.subject.copy(self.values)
        self.tensors = track(self.values, layer.tracked) if layer.is_tracked else {}
        again = lambda: arguments.build(self.values, layer.random.generators)
        args, kwargs = again()
        self.drawn = []  # the states of what is random after each call
        result = self.guarded(lambda: forward(*args, **kwargs), None, layer.name)
        values = arguments.values | dict(zip(arguments.in_order, args)) | kwargs
        call = Call(layer.name, values, again, backward, gradient, functions.is_explicit, self.subject, self.tensors)
        self.read = read_result(result, call)
        self.is_loss = self.read.is_loss
        self.takes_step = self.read.takes_step or bool(layer.subject and layer.subject.rates)
        self.outputs, self.output_names = self.read.outputs.arrays, self.read.outputs.names
        if self.is_loss:  # of shape (1, 1) too
            self.outputs = [y.reshape(()) if y.size == 1 else y for y in self.outputs]
        layer.latest, self.pulls = self, 0

    def guarded(self, f, state, what):
        """f(), with everything random at a state; what it raises becomes CannotCheck."""
        try:
            result, after = self.layer.random.call(f, state)
        except CannotCheck:
            raise
        except (Exception, SystemExit) as error:  # whatever the user's code may raise
            raise raised(what, error, f"; it was handed {self.layer.handed(self.leaves)}") from error
        self.drawn.append(after)
        return result

    def pull(self, cotangents=()):
        """The gradients that backward claims, for NumPy arrays like `.outputs` -> {name: NumPy array or None}.

        A loss takes no cotangents. Names that are no input are kept, and where a gradient is missing, so is its name.
        """
        self.pull_unnamed(cotangents)
        found = self.layer.namer.name(self.returned)
        return found | self.gradients_held() if self.layer.subject else found

    def pull_unnamed(self, cotangents):
        """Run backward, which leaves what it returns in `.returned`.

        Forward has always run just before, for the two may share an object or a cache that is not handed on.
        """
        if self.pulls and self.subject is not None or self.layer.latest is not self:
            self.forward()
        names = [] if self.is_loss else [f"d{name}" for name in self.output_names]
        self.before = {name: np.array(c) for name, c in zip(names, cotangents)}
        try:
            self.returned = self.backward()
        except CannotCheck:
            if not self.pulls:
                raise
            self.forward()  # some backward passes can run only once
            self.returned = self.backward()
        self.pulls += 1

    def backward(self):
        """What the user's backward returns for new copies of the cotangents."""
        self.cotangents = {name: self.read.outputs.like(i, c) for i, (name, c) in enumerate(self.before.items())}
        # Backward goes on from where forward has come; a gradient= draws the same numbers from the start.
        is_gradient = self.layer.functions.gradient is not None
        which, state = ("gradient", None) if is_gradient else ("backward", self.drawn[0])
        shapes = ", ".join(f"{name} {described(c)}" for name, c in self.cotangents.items())
        what = f"the {which} of {self.layer.name}{shapes and f', at {shapes},'}"
        return self.guarded(lambda: self.read.pull(list(self.cotangents.values())), state, what)

    def gradients_held(self):
        """The gradients that an object keeps, of its parameters and, where backward returns nothing, of its input."""
        found = self.layer.subject.gradients(self.subject, self.leaves if self.takes_step else None)
        if self.returned is None:
            for name in self.layer.arguments.tops:
                held = gradient_at(self.subject, Place((f".{name}",), None))
                if name in self.leaves and held is not None:
                    found[name] = to_array(held)
        return found

    def written(self):
        """The names of what was handed over, arguments and cotangents, that the user's code wrote to."""
        stepped = self.layer.subject.parameters if self.takes_step and self.layer.subject else ()
        names = [name for name in self.values if not is_statistic(name) and name not in stepped]  # a norm keeps some
        pairs = [(name, self.leaves[name], self.values[name]) for name in names]
        pairs += [(name, self.before[name], handed) for name, handed in self.cotangents.items()]
        return [name for name, before, after in pairs if not same_numbers(before, to_numpy(after))]


def same_numbers(before, after):
    """Whether two arrays hold the same bits, where they are of one dtype, or else the same numbers."""
    if before.dtype == after.dtype:
        return before.tobytes() == after.tobytes()
    return np.array_equal(before, after, equal_nan=True)
