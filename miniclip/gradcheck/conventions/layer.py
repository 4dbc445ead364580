"""Anybody's function as a layer that can be run anywhere: forward at given numbers, backward with given cotangents.

    layer = as_layer(f, args, kwargs)
    run = layer.run(layer.leaves)          forward, at copies of the arrays of floats
    run.outputs                            NumPy arrays
    run.pull(cotangents)                   {name: gradient}, as the backward pass of f claims them

What f is, and what it returns, decides how its backward pass is called (conventions.py, pairs.py, objects.py,
torch_layer.py). A first run finds out.
"""

import numpy as np

from ..refusals import CannotCheck
from .arguments import Arguments, Slot
from .arrays import described, to_numpy, torch_module
from .choice import choose_names, nothing_left, refuse_values
from .data import is_data, is_network
from .gradient_names import GradientNames
from .object_arrays import holds_arrays
from .objects import Subject
from .randomness import RandomStates
from .run import Run
from .subjects import Functions, find_functions
from .torch_layer import ModuleSubject, is_module


def as_layer(f, args, kwargs=None, backward=None, gradient=None, exclude=(), wrt=None):
    """The `Layer` of a function or an object at these arguments.

    backward: of a forward pass that does not return its own, a function of the cotangents and the cache.
    gradient: of a function that returns one number, a function of the same arguments, or its value.
    wrt, exclude: names, patterns of names, or numbers of arguments to differentiate, and not to.
    Raises ValueError for a name in wrt that is not there, and CannotCheck, in one sentence, for all that cannot be
    checked; its `__cause__` is what the user's code raised, if it did.
    """
    return Layer(find_functions(f, backward, gradient), args, kwargs or {}, exclude, wrt)


class Layer:
    """A function at a point. `.name`; `.leaves` {name: float64 array}, all arrays of floats; `.names`, those to
    differentiate; `.optional`, those that have a gradient where backward gives one; `.constants` {name: the rest};
    `.is_loss`, whether backward takes no cotangent; `.notes`, sentences for the report; `.first`, a `Run` at the point.
    """

    def __init__(self, functions: Functions, args, kwargs, exclude=(), wrt=None):
        self.functions, self.name = functions, functions.name
        named = functions.subject.forward if is_module(functions.subject) else functions.forward
        self.arguments = Arguments(named, args, kwargs, functions.name)
        self.leaves, self.constants = self.arguments.leaves, self.arguments.constants
        self.random = RandomStates(*functions[1:5], self.arguments.tops)
        self.first = self.latest = self.subject = None
        self.optional = self.settings = set(self.arguments.optional)
        self.is_tracked = torch_module() is not None  # by torch's autograd, where there are tensors
        self.tracked, self.by_name_only = list(self.leaves), ()
        if is_module(functions.subject):
            self.subject = ModuleSubject(functions.subject, functions[1:4], self.random.generators)
            self.enter_parameters()
        elif functions.subject is not None:
            self.find_parameters(Subject(functions.subject, functions[1:4], self.random.generators))
        self.names, self.optional = choose_names(self.arguments, wrt, exclude)
        self.settle(is_chosen=wrt is not None)

    def find_parameters(self, subject):
        """Run once to see which arrays of an object have gradients, and take these for arguments like the others."""
        self.subject = subject
        probe = self.run(self.leaves)
        probe.pull_unnamed([np.ones(y.shape) for y in probe.outputs])
        subject.settle(probe.subject, probe.read.takes_step)
        self.enter_parameters()
        before = {name: to_numpy(value) for name, value in subject.values().items()} if probe.takes_step else None
        if subject.gradients(probe.subject, before):  # else they are in what backward returns
            self.by_name_only = {name.split(".")[0] for name in subject.parameters}

    def enter_parameters(self):
        """Take the parameters of an object for arguments like the others: layers within it are trees of theirs."""
        tops, parameters = self.arguments.tops, self.subject.parameters
        for name in [name for name in parameters if name.split(".")[0] in tops]:
            parameters[f"self.{name}"] = parameters.pop(name)
        for name, given in self.subject.values().items():
            self.arguments.add_leaf(name, given)
            top, _, rest = name.partition(".")
            if rest:
                tops.setdefault(top, {})[rest] = Slot(name)
            else:
                tops[name] = Slot(name)

    def settle(self, is_chosen):
        """Run once, forward and backward, to learn what can only be learned so."""
        arguments = self.arguments
        self.tracked = [*self.names, *self.optional]
        every = dict.fromkeys(arguments.values) | arguments.tops  # None stands for what was not handed over
        choice = self.names, self.optional, self.by_name_only, arguments.starred
        self.namer = GradientNames(every, self.leaves, *choice)
        self.first = self.run(self.leaves)
        self.is_loss, self.namer.is_loss = self.first.is_loss, self.first.read.may_omit
        self.refuse_outputs(self.first.outputs)
        found = self.first.pull([np.ones(y.shape) for y in self.first.outputs])
        self.random.settle(self.first.drawn)
        self.refuse_gradients(found)
        claimed = {name for name, gradient in found.items() if gradient is not None}
        if not is_chosen:
            self.take_for_data(claimed)
        self.names = [name for name in self.leaves if name in self.names or name in self.optional & claimed]
        self.names = self.names or [name for name in self.leaves if name in self.optional]
        self.optional, self.settings = self.optional - set(self.names), self.settings - set(self.names)
        if not self.names:
            raise CannotCheck(nothing_left(arguments, None, ()))
        for name in self.names:
            refuse_values(name, self.leaves[name], arguments.given[name])
        self.notes = list(dict.fromkeys([*arguments.raised_notes(), *arguments.notes, *self.namer.notes]))
        for name in [name for name, value in self.constants.items() if holds_arrays(value)]:
            self.notes.append(
                f"{name} holds arrays of floats, taken for constants: a dict or a dataclass is taken apart."
            )
        self.notes += self.subject.notes() if self.subject else filter(None, [self.functions.note])
        if self.random.draws:
            self.notes.append("random numbers are drawn from the same state in every call.")

    def refuse_outputs(self, outputs):
        """Raise CannotCheck where an output is complex, or all are empty."""
        shown = ", ".join(map(described, outputs))
        if not any(y.size for y in outputs):
            raise CannotCheck(f"the output of {self.name} is empty, {shown}: it must have entries.")
        if any(y.dtype.kind not in "fciub" for y in outputs):
            raise CannotCheck(f"the output of {self.name} is {shown}: it must be an array of floats.")
        if any(map(np.iscomplexobj, outputs)):
            raise CannotCheck(
                f"the output of {self.name} is {shown}: gradients of complex numbers are not checked; return real and "
                "imaginary part as two outputs."
            )

    def refuse_gradients(self, found):
        """Raise CannotCheck where what was returned cannot be gradients at all."""
        returned = self.first.returned
        if not found and returned is None:
            raise CannotCheck(f"the backward of {self.name} returned nothing (None): does its last line say return?")
        fit = any(np.size(found.get(name)) == self.leaves[name].size for name in [*self.names, *self.optional])
        if self.first.read.may_omit and self.functions.gradient is None and not fit:
            raise CannotCheck(
                f"{self.name} returned one number, and {described(returned)}, which has the shape of no argument "
                f"({self.handed(self.leaves)}): if it is a cache, hand over what takes it, backward=…"
            )

    def take_for_data(self, claimed):
        """Arrays without a gradient that are no fault, with a note that says so.

        Parameters, where a method gives gradients of its arguments alone; arguments, where a loss or a network gives
        gradients of others alone.
        """
        parameters = set(self.subject.parameters) if self.subject else set()
        if parameters and not claimed & parameters and self.functions.backward is None:
            self.names = [name for name in self.names if name not in parameters]
            self.arguments.notes.append(
                f"{', '.join(parameters)}: no gradient of these is given; they are not checked."
            )
        for top in self.arguments.tops:
            parts = [name for name in self.names if name == top or name.startswith(f"{top}.")]
            if parts and not parameters & set(parts) and not claimed & set(parts) and self.may_be_data(parts, claimed):
                self.names = [name for name in self.names if name not in parts]
                self.arguments.notes.append(
                    f"{top} is given no gradient and was taken for data; wrt=[{top!r}, …] asks for its gradient."
                )

    def may_be_data(self, parts, claimed):
        """Whether an argument that is given no gradient, of which these are the parts, is data."""
        if not claimed & set(self.names):
            return False
        if self.subject is not None:
            return self.first.read.may_omit or self.first.returned is None and is_network(self.subject)
        leaves = [self.leaves[name] for name in parts]
        return self.first.read.may_omit and is_data(parts[0], leaves, claimed, self.first.returned)

    def run(self, leaves, copy=True):
        """Forward with new arguments from {name: array}; what is missing there is as it was given. -> `Run`

        copy: False hands over these very arrays, in whatever memory layout they have.
        """
        return Run(self, {**self.leaves, **leaves}, copy)

    def handed(self, leaves):
        """What a reader needs to know of the arguments: "x float64 (3, 4), n 2"."""
        floats = [f"{name} {described(array)}" for name, array in leaves.items()]
        return ", ".join([*floats, *(f"{name} {described(value)}" for name, value in self.constants.items())][:12])
