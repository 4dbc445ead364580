"""Layer objects: a class with forward and backward, whose parameters and gradients are attributes of its objects.

    layer = Linear(3, 4)                      parameters    layer.W, layer.params["W"], layer.W.data
    y = layer.forward(x)                      gradients     layer.dW, layer.grads["W"], layer.W.grad
    dx = layer.backward(dy)                   also in layers within layers, as "fc1.W"

Every call gets a deep copy of the object, in which the arrays of that call stand wherever the object held its
parameters, under however many names, and gradients are zero: so `self.dW += …` counts from nothing, and no call sees
what another has kept. Where backward takes the step of gradient descent at once, the rate is 1 in the copies: what it
subtracts then is the gradient.
"""

import copy
import inspect
import re
import types

import numpy as np

from .arrays import is_array, like, to_numpy
from .naming import plain_names, to_array
from .object_arrays import CONTAINERS, GRADIENTS, follow, gradient_at, is_attribute, parts_of, places_in, put
from .randomness import contents

FORWARDS = ("forward", "__call__", "call", "forward_pass", "fprop", "fwd")
BACKWARDS = ("backward", "backprop", "backward_pass", "bprop", "bwd")
LOSSES, SLOPES = ("loss",), ("gradient", "grad")  # of a network; of a function of the same arguments
OUTPUT_NAMES = ("output", "out", "outputs", "y", "result")  # where a forward that returns nothing leaves its output
LEARNED = re.compile(
    r"(w|b|u|v|weights?|bias(es)?|gamma|beta|kernels?|filters?|embeddings?|theta|params)\d*(_?[a-z]{1,2})?\d*",
    re.IGNORECASE,
)
STATISTIC = re.compile(r"running|moving|mask|cache|mean|var|std|momentum|velocity")
RATE = re.compile(r"lr|learn(ing)?_?rate|eta|step_?size", re.IGNORECASE)


def method_of(x, names):
    """The first of these methods that an object or class has, or None."""
    return next((getattr(x, name) for name in names if callable(getattr(x, name, None))), None)


class Subject:
    """An object whose layers are checked, with its functions: copies of all for each call, and its parameters.

    functions: (f, backward, gradient), of which some are methods of the object; generators: {id: generator}.
    `.parameters` {name: `Place`} are there after `settle` has seen what a first call leaves behind. `.constants` are
    names of arrays that the object holds and that have no gradient, `.late` of parameters made only in that call.
    """

    def __init__(self, subject, functions, generators):
        self.original, self.functions, self.parameters = subject, functions, {}
        self.candidates = places_in(subject)
        shared = {id(part): part for part in uncopyable(subject, set())}
        self.kept = shared | generators  # the same for all calls
        self.closures = [place for place in places_in(subject, inspect.isfunction) if place.path and self.made(place)]
        floats = [] if shared else [place for place in self.candidates if not place.is_array]
        self.rates = [place for place in floats if RATE.fullmatch(place.steps[-1])]
        self.constants, self.late, self.gradients_held = [], [], []
        self.fresh = None  # what a copy holds before it is used
        self.has_stepped = False  # whether backward was seen to change the parameters

    def values(self):
        """{name: array or float} of the parameters."""
        return {name: place.value for name, place in self.parameters.items()}

    def notes(self):
        """What of the object is not checked, or is found in an unusual way: sentences."""
        if self.constants:
            held = ", ".join(self.constants)
            yield f"{held}: no gradient of this was found on the object; it was taken for a constant."
        if self.late:
            made = ", ".join(self.late)
            yield f"{made}: made in the first call, and not checked; run forward once before you hand the object over."
        if self.has_stepped:
            yield "backward changes the parameters; at a learning rate of 1, that is their gradient."

    def copy(self, values):
        """A new subject and its functions, with {name: array in the user's kind} as parameters, and zero gradients."""
        memo = dict(self.kept)
        for name, held in self.gradients_held:
            memo[id(held)] = like(np.zeros_like(to_numpy(values[name])), held)
        memo |= {id(place.value): values[name] for name, place in self.parameters.items() if place.is_array}
        subject, functions = copy.deepcopy((self.original, self.functions), memo)
        self.fresh = self.fresh or [follow(subject, place.path) for place in self.candidates]
        for name, place in self.parameters.items():
            if not place.is_array:  # a float, which may be the same object as another
                put(subject, place.path, values[name])
        for place in self.rates:
            put(subject, place.path, 1.0)
        new = {id(place.value): with_new_cells(place.value, memo) for place in self.closures}
        for place in self.closures:
            put(subject, place.path, new[id(place.value)])
        return subject, [new.get(id(function), function) for function in functions]

    def made(self, place):
        """Whether a function was made with the object that holds it, of which a copy then needs its own."""
        owners = [follow(self.original, place.path[:i]) for i in range(len(place.path))]
        return any(content is owner for content in contents(place.value) for owner in owners)

    def settle(self, used, takes_step):
        """Choose the parameters from what is there and from what a copy holds after forward and backward."""
        if id(self.original) in self.kept:
            return
        for place, fresh in zip(self.candidates, self.fresh):
            if self.is_other(place, self.candidates) or any(place in self.aliases(p) for p in self.parameters.values()):
                continue
            is_kept = follow(used, place.path) is fresh
            if self.is_parameter(place, used, takes_step, is_kept):
                self.parameters[place.full_name if place.name in self.parameters else place.name] = place
            elif is_kept and place.is_array and np.ndim(place.value):
                self.constants.append(place.name)
        for name, place in self.parameters.items():
            held = [gradient_at(self.original, alias) for alias in self.aliases(place)]
            alike = [g for g in held if is_array(g) and np.shape(g) == np.shape(place.value)]
            self.gradients_held += [(name, g) for g in alike]
        known, made = [place.path for place in self.candidates], places_in(used)
        self.late = [
            place.name for place in made
            if place.path not in known and not self.is_other(place, made)
            and is_likely(place) and gradient_at(used, place) is not None
        ]  # fmt: skip

    def aliases(self, place):
        """All places of one array: an object may hold it as params["W"] and in a layer as W."""
        return [place, *(p for p in self.candidates if p.value is place.value and p is not place and place.is_array)]

    def is_parameter(self, place, used, takes_step, is_kept):
        """Whether an array has a gradient, or is called what learned arrays are called, and is not what a call left."""
        if gradient_at(used, place) is not None:
            return is_kept or is_likely(place)
        is_there = np.ndim(place.value) > 0 and follow(used, place.path) is not None
        return is_there and is_likely(place) and (is_kept or takes_step or bool(self.rates))

    def is_other(self, place, places):
        """Whether an array is a gradient, of one that stands beside it, or a statistic."""
        last = place.steps[-1]
        beside = {p.steps[-1] for p in places if p.path[:-1] == place.path[:-1]} - {last}
        is_gradient = any(name in beside for name in plain_names(last)[1:]) or any(n in GRADIENTS for n in place.steps)
        return is_gradient or any(STATISTIC.search(name.lower()) for name in place.steps)

    def gradients(self, used, before=None):
        """{name: NumPy array} that a used copy holds for its parameters.

        before: {name: array}, where backward may have taken a step: then what it subtracted is the gradient.
        """
        found, steps = {}, {}  # both {name: gradient}
        for name, place in self.parameters.items():
            if held := self.held(used, place):
                found[name] = sum(to_array(gradient, np.float64) for gradient in held)
            elif before is not None:
                steps[name] = before[name] - to_numpy(follow(used, place.path))
        self.has_stepped = any(step.any() for step in steps.values())
        return found | steps if self.has_stepped else found

    def held(self, used, place):
        """The gradients of one parameter that a used copy holds: several, to be added, where layers share it."""
        held = [(p, g) for p in self.aliases(place) if (g := gradient_at(used, p)) is not None]
        first = held[0][0].path if held else ()
        shares = {id(g): g for p, g in held if p.path == first or differ_in_one_step(p.path, first)}
        return list(shares.values())


def with_new_cells(function, memo):
    """A function like this whose closure holds copies, by the memo of a deep copy."""
    cells = tuple(types.CellType(copy.deepcopy(content, memo)) for content in contents(function))
    new = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    new.__kwdefaults__ = function.__kwdefaults__
    return new


def differ_in_one_step(path, other):
    """Whether two paths are those of one attribute in two layers, or of two entries of one list."""
    return len(path) == len(other) and sum(a != b for a, b in zip(path, other)) == 1


def is_likely(place):
    """Whether an array is called, or lies where, learned arrays are."""
    is_learned = is_attribute(place.path[-1]) and LEARNED.fullmatch(place.steps[-1])
    return bool(place.is_boxed or is_learned or any(name in CONTAINERS for name in place.steps[:-1]))


def uncopyable(subject, seen):
    """The parts of an object that cannot be copied, such as an open file or a lock."""
    try:
        copy.deepcopy(subject)
        return []
    except Exception:  # whatever a class of the user's may raise
        seen.add(id(subject))
        parts = [part for part in parts_of(subject).values() if id(part) not in seen]
        return [found for part in parts for found in uncopyable(part, seen)] or [subject]
