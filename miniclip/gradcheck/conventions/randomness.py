"""Random numbers that are the same in every call: global states, and the generators that a function reaches.

A function that draws its dropout mask inside is another function in every call, and has no slopes. So the global
states (of NumPy, `random`, torch) and every generator that is found in the closure of the function, in the globals
that its code names, or in the attributes of an object start each call from the same state. Afterwards they are put
back to what they were.
"""

import functools
import pickle
import random
import sys
import types

import numpy as np

from .arrays import is_tensor, torch_module

LIBRARIES = {"numpy", "scipy", "torch", "cupy", "matplotlib", "PIL", "pytest", *sys.stdlib_module_names} - {"__main__"}
DEEPEST, MOST = 8, 20_000  # how far, and in how many objects, a generator is looked for


class RandomStates:
    """The states of all generators that the given functions and objects can reach.

    `.draws`: whether a call has been seen to change one; until `settle` has seen that none does, they are all kept.
    `.generators` {id: generator}, which are the same in all copies of the objects that hold them.
    """

    def __init__(self, *roots):
        self.generators = {id(x): x for x in reachable(roots) if is_generator(x)}
        self.sources = [(np.random.get_state, np.random.set_state), (random.getstate, random.setstate)]
        if torch_module():
            self.sources.append((torch_module().get_rng_state, torch_module().set_rng_state))
        self.sources += map(access, self.generators.values())
        self.start, self.draws = self.read(), True

    def read(self):
        return [get() for get, _ in self.sources]

    def write(self, states):
        for (_, put), state in zip(self.sources, states):
            put(state)

    def call(self, f, states=None):
        """f() with everything random at `states`, by default the start -> its result, and the states after it.

        What is random is as it was before when this returns.
        """
        if not self.draws:
            return f(), None
        before = self.read()
        self.write(states or self.start)
        try:
            return f(), self.read()
        finally:
            self.write(before)

    def settle(self, states):
        """Note whether anything had been drawn, given the states after some calls; if not, they need not be kept."""
        self.draws = any(as_bytes(after) != as_bytes(self.start) for after in states)


def as_bytes(states):
    """The states of generators as bytes, to be compared."""
    return [state.numpy().tobytes() if is_tensor(state) else pickle.dumps(state) for state in states]


def is_generator(x):
    """Whether x draws random numbers: of NumPy, of Python or of torch."""
    torch = torch_module()
    kinds = (np.random.Generator, np.random.RandomState, random.Random)
    return isinstance(x, kinds) or bool(torch) and isinstance(x, torch.Generator)


def access(generator):
    """How the state of a generator is read, and how it is written."""
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return lambda: bits.state, lambda state: setattr(bits, "state", state)
    if isinstance(generator, random.Random):
        return generator.getstate, generator.setstate
    return generator.get_state, generator.set_state


def reachable(roots):
    """All that functions and objects refer to, as far as is looked, each once."""
    found, level = {}, list(roots)  # {id: object}
    for _ in range(DEEPEST):
        new = {id(x): x for x in level if id(x) not in found}
        if len(found) + len(new) > MOST:
            break
        found |= new
        level = [part for x in new.values() if not is_generator(x) for part in reach(x)]
    return found.values()


def reach(x):
    """What a function's code, or an object, refers to."""
    if hasattr(x, "__func__"):  # a method, also a static one or one of a class
        return [x.__func__, getattr(x, "__self__", None)]
    if isinstance(x, functools.partial):
        return [x.func, *x.args, *x.keywords.values()]
    if isinstance(x, dict):
        return list(x.values())
    if isinstance(x, (list, tuple)):
        return list(x) if len(x) < 1000 else []
    if isinstance(x, types.ModuleType) or is_of_library(getattr(x, "__module__", None) or type(x).__module__):
        return []
    if not isinstance(x, types.FunctionType):
        attributes = list(getattr(x, "__dict__", {}).values())
        return attributes if isinstance(x, type) else [type(x), *attributes]
    names = names_in(x.__code__)
    named = [x.__globals__[name] for name in names if name in x.__globals__]
    modules = [m for m in named if isinstance(m, types.ModuleType) and not is_of_library(m.__name__)]
    named += [vars(m)[name] for m in modules for name in names if name in vars(m)]
    return [*contents(x), *named, *(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values(), *vars(x).values()]


def is_of_library(module):
    """Whether a module is a library's, and so not the user's own code."""
    return (module or "").partition(".")[0] in LIBRARIES or module == "builtins"


def contents(function):
    """What the closure of a function holds, in order; None of what is not there yet."""
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:
            found.append(None)
    return found


@functools.cache
def names_in(code):
    """The globals and attributes that a function's code names, and the functions inside it."""
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in names_in(c)]
    return (*code.co_names, *inner)
