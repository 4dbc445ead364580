"""Layer objects: a class with forward and backward, whose parameters and gradients are attributes of its objects.

    layer = Linear(3, 4)                      parameters    layer.W, layer.params["W"], layer.W.data
    y = layer.forward(x)                      gradients     layer.dW, layer.grads["W"], layer.W.grad
    dx = layer.backward(dy)                   also in layers within layers, as "fc1.W"

Every call gets a deep copy of the object, in which the arrays of that call stand wherever the object held its
parameters, under however many names, and gradients are zero: so `self.dW += …` counts from nothing, and no call sees
what another has kept.
"""

import copy
import re

import numpy as np

from .arrays import is_array, like, to_numpy
from .naming import to_array
from .object_arrays import (
    CONTAINERS,
    GRADIENTS,
    VALUES,
    follow,
    gradient_at,
    is_attribute,
    is_gradient_of,
    parts_of,
    places_in,
    put,
)

FORWARDS = ("forward", "__call__", "forward_pass", "fprop", "fwd")
BACKWARDS = ("backward", "backprop", "backward_pass", "bprop", "bwd")
OUTPUT_NAMES = ("output", "out", "outputs", "y", "result")  # where a forward that returns nothing leaves its output
LEARNED = re.compile(
    r"(w|b|u|v|weights?|bias(es)?|gamma|beta|kernels?|filters?|embeddings?)\d*(_?[a-z]{1,2})?\d*", re.IGNORECASE
)
STATISTIC = re.compile(r"running|moving|mask|cache|mean|var|std|momentum|velocity")


class Subject:
    """An object whose layers are checked, with its functions: copies of all for each call, and its parameters.

    functions: (f, backward, gradient), of which some are methods of the object. `.parameters` {name: `Place`} are
    there after `settle` has seen what a first call leaves behind.
    """

    def __init__(self, subject, functions):
        self.original, self.functions, self.parameters = subject, functions, {}
        self.candidates, self.gradients_held = places_in(subject), []
        self.shared = {id(part): part for part in uncopyable(subject, set())}
        self.is_shared = id(subject) in self.shared  # one object for all calls
        self.constants = []  # names of arrays that it holds and that have no gradient
        self.fresh = []  # what a first copy holds before it is used

    def copy(self, values):
        """A new subject and its functions, with {name: array in the user's kind} as parameters, and zero gradients."""
        memo = dict(self.shared)
        for name, held in self.gradients_held:
            memo[id(held)] = like(np.zeros_like(to_numpy(values[name])), held)
        for name, place in self.parameters.items():
            if type(place.value) is not float:
                memo[id(place.value)] = values[name]
        subject, functions = copy.deepcopy((self.original, self.functions), memo)
        self.fresh = self.fresh or [follow(subject, place.path) for place in self.candidates]
        for name, place in self.parameters.items():
            if type(place.value) is float:  # which may be the same object as another number
                put(subject, place.path, values[name])
        return subject, functions

    def settle(self, used, takes_step):
        """Choose the parameters from what is there and from what a copy holds after forward and backward."""
        for place, fresh in zip(self.candidates, self.fresh) if not self.is_shared else ():
            is_kept = follow(used, place.path) is fresh
            if self.is_parameter(place, used, takes_step, is_kept):
                name = place.name if place.name not in self.parameters else place.full_name
                self.parameters[name] = place
            elif is_kept and is_array(place.value) and np.ndim(place.value) and not self.is_other(place):
                self.constants.append(place.name)
        for name, place in self.parameters.items():
            for alias in self.aliases(place):
                held = gradient_at(self.original, alias)
                if is_array(held) and np.shape(held) == np.shape(place.value):
                    self.gradients_held.append((name, held))

    def aliases(self, place):
        """All places of one array: an object may hold it as params["W"] and in a layer as W."""
        is_float = type(place.value) is float
        return [place, *(p for p in self.candidates if p.value is place.value and p is not place and not is_float)]

    def is_parameter(self, place, used, takes_step, is_kept):
        """Whether an array has a gradient, or is called what learned arrays are called, and is not what a call left."""
        names = [str(step).removeprefix(".") for step in place.path]
        if self.is_other(place):
            return False
        boxed = place.path[-1] in VALUES
        learned = is_attribute(place.path[-1]) and LEARNED.fullmatch(names[-1])
        in_container = any(name in CONTAINERS for name in names[:-1])
        is_likely = bool(boxed or learned or in_container)
        if gradient_at(used, place) is not None:
            return is_kept or is_likely
        is_there = np.ndim(place.value) > 0 and follow(used, place.path) is not None
        return is_there and is_likely and (is_kept or takes_step)

    def is_other(self, place):
        """Whether an array is a gradient, a statistic, or a parameter found under another name."""
        names = [str(step).removeprefix(".") for step in place.path]
        is_known = any(place in self.aliases(known) for known in self.parameters.values())
        is_gradient = is_gradient_of(place, self.candidates) or any(name in GRADIENTS for name in names)
        return is_known or is_gradient or any(STATISTIC.search(name.lower()) for name in names)

    def gradients(self, used, before=None):
        """{name: NumPy array} that a used copy holds for its parameters.

        before: {name: array}, where backward took a step of rate 1: then what it subtracted is the gradient.
        """
        found = {}
        for name, place in self.parameters.items():
            held = next((g for p in self.aliases(place) if (g := gradient_at(used, p)) is not None), None)
            if held is not None:
                found[name] = to_array(held, np.float64)
            elif before is not None:
                found[name] = before[name] - to_numpy(follow(used, place.path))
        return found


def uncopyable(subject, seen):
    """The parts of an object that cannot be copied, such as an open file or a lock."""
    try:
        copy.deepcopy(subject)
        return []
    except Exception:  # whatever a class of the user's may raise
        seen.add(id(subject))
        found = [part for value in parts_of(subject).values() if id(value) not in seen
                 for part in uncopyable(value, seen)]  # fmt: skip
        return found or [subject]


def method_of(x, names):
    """The first of these methods that an object or class has, or None."""
    return next((getattr(x, name) for name in names if callable(getattr(x, name, None))), None)
