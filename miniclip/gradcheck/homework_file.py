"""A file of the user's: its functions, the inputs to check them at, and the backward passes that belong to them.

    def batchnorm(x, gamma, beta): …                       what is checked; it may be imported
    def batchnorm_inputs(rng): return x, gamma, beta       a tuple, a dict by name, or one array
    def batchnorm_backward(dout, cache): …                 where batchnorm returns no backward of its own
    def check_batchnorm(): return check(batchnorm, …)      or anything at all: a Report, or (f, x, …)

Those of batchnorm_forward have the same names; for a class BatchNorm, batchnorm_inputs or batch_norm_inputs.
"""

import copy
import importlib.util
import inspect
import re
import sys
from pathlib import Path

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
        if name not in self.names:
            own = [other for other, value in self.names.items() if callable(value) and self.is_own(value)]
            raise CannotCheck(f"{self.path.name} has no {name!r}; it has {', '.join(own) or 'no functions'}.")
        return self.names[name]

    def full_name(self, name):
        """batchnorm, or batchnorm_forward where the file has that and no batchnorm."""
        forwards = [forward for forward in (f"{name}_forward", f"forward_{name}") if forward in self.names]
        return name if name in self.names or not forwards else forwards[0]

    def is_own(self, value):
        return getattr(value, "__module__", None) == self.module.__name__

    def checkable(self):
        """The names of all that has inputs, and of the functions check_… that take nothing."""

        def is_check(name, value):
            of_that_name = name.startswith("check_") and inspect.isfunction(value) and self.is_own(value)
            return of_that_name and takes_nothing(value)

        return [
            name
            for name, value in self.names.items()
            if self.belonging(name, "inputs") and is_layer(value) or is_check(name, value)
        ]

    def without_inputs(self):
        """The names of functions and classes that have a backward pass in this file, and no inputs."""
        return [
            name
            for name, value in self.names.items()
            if not self.belonging(name, "inputs")
            and (self.belonging(name, "backward") or inspect.isclass(value) and hasattr(value, "backward"))
        ]

    def belonging(self, name, word):
        """The name of the "inputs" or the "backward" of a function or a class in this file, or None."""
        base = re.sub(r"^forward_?|_?forward$", "", name)
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        stems = [stem for stem in dict.fromkeys((name, base, snake, name.lower())) if stem]
        wanted = [other for stem in stems for other in (f"{stem}_{word}", f"{word}_{stem}")]
        return next((other for other in wanted + [word] * (not base) if other in self.names), None)

    def inputs(self, name, seed):
        """args, kwargs for a function, from its inputs in this file, or None."""
        other = self.belonging(name, "inputs")
        return other and bind(name, self[name], make_inputs(other, self[other], seed))

    def backward(self, name, args, kwargs):
        """The backward that belongs to a function, where it returns none of its own, or None."""
        other = self.belonging(name, "backward")
        if other is None or not inspect.isfunction(self[name]):
            return None
        result = call_theirs(name, self[name], *copy.deepcopy(args), **copy.deepcopy(kwargs))
        has_its_own = isinstance(result, (tuple, list)) and len(result) > 1 and callable(result[-1])
        return None if has_its_own else self[other]


def is_layer(value):
    """Whether this may be something to check: a function, a class, or an object with a forward pass."""
    return callable(value) or hasattr(value, "forward")
