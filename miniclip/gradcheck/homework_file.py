"""A file of the user's: its functions, the inputs to check them at, and the backward passes that belong to them.

    def batchnorm(x, gamma, beta): …                       what is checked; it may be imported
    def batchnorm_inputs(rng): return x, gamma, beta       a tuple, a dict by name, or one array
    def batchnorm_backward(dout, cache): …                 where batchnorm returns no backward of its own
    def check_batchnorm(): return check(batchnorm, …)      or anything at all: a Report, or (f, x, …)

Those of batchnorm_forward have the same names; for a class BatchNorm, batchnorm_inputs or batch_norm_inputs. A function
that returns one number may have batchnorm_gradient; Network.loss is the method of a new Network(), with network_inputs.
"""

import copy
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import numpy as np

from .homework_inputs import bind, call_theirs, make_inputs, takes_nothing
from .refusals import CannotCheck


class HomeworkFile:
    """A Python file, loaded as a module. `.names` {name: value}: what it defines and imports, in order.

    Raises CannotCheck where it is not there, or where it fails, which then is the cause.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_file() or self.path.suffix != ".py":
            raise CannotCheck(f"there is no Python file {path}; say homework.py or homework.py::function.")
        name = self.path.stem if self.path.stem not in sys.modules else f"{self.path.stem} of {self.path.parent}"
        spec = importlib.util.spec_from_file_location(name, self.path)
        self.module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(self.path.parent.resolve()))  # for what it imports
        sys.modules[name] = self.module
        call_theirs(self.path.name, spec.loader.exec_module, self.module)
        self.names = {name: value for name, value in vars(self.module).items() if not name.startswith("_")}

    def __getitem__(self, name):
        """What has this name in the file: a function, a class, an object, or a method of one, "network.loss"."""
        first, *steps = name.split(".")
        if first not in self.names:
            own = [other for other, value in self.names.items() if callable(value) and self.is_own(value)]
            raise CannotCheck(f"{self.path.name} has no {first!r}; it has {', '.join(own) or 'no functions'}.")
        found = self.names[first]
        for step in steps:
            found = call_theirs(first, found) if inspect.isclass(found) else found
            if not hasattr(found, step):
                raise CannotCheck(f"{name}: an object of class {type(found).__name__} has no {step!r}.")
            found = getattr(found, step)
        return found

    def full_name(self, name):
        """batchnorm, or batchnorm_forward where the file has that and no batchnorm."""
        forwards = [forward for forward in (f"{name}_forward", f"forward_{name}") if forward in self.names]
        return name if name in self.names or not forwards else forwards[0]

    def is_own(self, value):
        return getattr(value, "__module__", None) == self.module.__name__

    def checkable(self):
        """The names of all that has inputs, and of the functions check_… that take nothing."""

        def is_checkable(name, value):
            if name.startswith("check_") and self.is_own(value) and takes_nothing(value):
                return True
            is_layer = callable(value) or hasattr(type(value), "forward")
            return is_layer and self.belonging(name, "inputs") is not None

        return [name for name, value in self.names.items() if is_checkable(name, value)]

    def without_inputs(self):
        """The names of functions and classes that have a backward pass in this file, and no inputs."""
        return [
            name
            for name, value in self.names.items()
            if not self.belonging(name, "inputs")
            and (self.belonging(name, "backward", "gradient") or inspect.isclass(value) and hasattr(value, "backward"))
        ]

    def belonging(self, name, *words):
        """The name of the "inputs", or the "backward", of a function or a class in this file, or None."""
        base = re.sub(r"^forward_?|_?forward$", "", name)
        owner = name.split(".")[0]
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", owner).lower()
        stems = [stem for stem in (name.replace(".", "_"), base, snake, owner.lower(), owner) if stem]
        wanted = [other for stem in stems for word in words for other in (f"{stem}_{word}", f"{word}_{stem}")]
        wanted += words if not base else ()  # forward, backward and inputs
        return next((other for other in wanted if other in self.names), None)

    def inputs(self, name, seed):
        """args, kwargs for a function, from its inputs in this file, or None."""
        other = self.belonging(name, "inputs")
        return other and bind(name, self[name], make_inputs(other, self[other], seed))

    def slope(self, name, args, kwargs):
        """{"backward": function} or {"gradient": function}, as it belongs to a function that returns neither; or {}."""
        backward, gradient = self.belonging(name, "backward"), self.belonging(name, "gradient", "grad")
        if not (backward or gradient) or not inspect.isroutine(self[name]):
            return {}
        result = call_theirs(name, self[name], *copy.deepcopy(args), **copy.deepcopy(kwargs))
        if isinstance(result, (tuple, list)):
            gradient = None
            backward = None if result and callable(result[-1]) else backward
        elif gradient and np.size(result) == 1:
            return {"gradient": self[gradient]}
        return {"backward": self[backward]} if backward else {}
