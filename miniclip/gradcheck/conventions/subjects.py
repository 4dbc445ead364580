"""What was handed to `check`: a function, a method, an object or a class with forward and backward, a Module."""

import functools
import inspect
from typing import NamedTuple

from ..refusals import MANNERS, CannotCheck, raised
from .arguments import STARRED, signature_of
from .arrays import described
from .objects import BACKWARDS, FORWARDS, LOSSES, SLOPES, method_of
from .randomness import is_of_library, reachable
from .torch_layer import applied, function_class, is_module


class Functions(NamedTuple):
    """A forward pass, its backward pass or gradient where they are functions too, and the object they share."""

    name: str
    forward: object
    backward: object
    gradient: object
    subject: object = None
    is_explicit: bool = False  # whether backward or gradient were handed over, and are no methods that were found
    note: str = ""


def find_functions(f, backward=None, gradient=None):
    """The `Functions` that are meant. Raises CannotCheck where nothing can be called."""
    explicit = backward is not None or gradient is not None
    if function := function_class(f):
        return Functions(function.__name__, applied(function), backward, gradient, None, explicit)
    if is_module(f):
        return Functions(type(f).__name__, f, backward, gradient, f, explicit)
    if inspect.isclass(f):
        if is_static(f):
            return with_context(f.__name__, f.forward, f.backward)
        f = new_object(f)
    if backward is not None and takes_context(f) and takes_context(backward):
        return with_context(name_of(f), f, backward)
    if inspect.isroutine(f) or isinstance(f, functools.partial):
        return of_function(f, backward, gradient, explicit)
    forward = method_of(f, FORWARDS) or method_of(f, LOSSES)
    if inspect.ismodule(f) and forward:
        return find_functions(forward, *methods_beside(f, backward, gradient))
    if forward is None:
        raise CannotCheck(
            f"{described(f)} is no function: hand over the function itself, check(f, x), not f(x). {MANNERS}"
            if method_of(f, BACKWARDS) is None
            else f"{type(f).__name__} has a backward and no forward: name it forward or __call__."
        )
    if is_of_library(type(f).__module__):  # what a decorator made of a function, or a ufunc
        return Functions(name_of(f), f, backward, gradient, None, explicit)
    return Functions(type(f).__name__, forward, *methods_beside(f, backward, gradient), f, explicit)


def of_function(f, backward, gradient, explicit):
    """The `Functions` of a function, a method, or a partial one."""
    plain = innermost(f)
    owner = getattr(plain, "__self__", None) if inspect.ismethod(plain) else None
    if owner is None or inspect.isclass(owner):
        owner = getattr(backward, "__self__", None) if inspect.ismethod(backward) else None
        return Functions(name_of(f), f, backward, gradient, owner, explicit)
    name = f"{type(owner).__name__}.{plain.__name__}"
    if not explicit and plain.__name__ in FORWARDS + LOSSES:
        backward, gradient = methods_beside(owner, backward, gradient)
    elif inspect.isfunction(backward) and any(x is owner for x in reachable([backward])):
        note = "backward goes on from this very object, whose own arrays are not checked: hand over its method itself."
        return Functions(name, f, backward, gradient, None, explicit, note)
    return Functions(name, f, backward, gradient, owner, explicit)


def methods_beside(x, backward, gradient):
    """backward and gradient, or else the methods of an object that are such."""
    if backward is None and gradient is None:
        backward = method_of(x, BACKWARDS)
        gradient = method_of(x, SLOPES) if backward is None else None
    return backward, gradient


def innermost(f):
    """The function in a partial one."""
    return innermost(f.func) if isinstance(f, functools.partial) else f


def name_of(f):
    """The name of a function, for a headline."""
    return getattr(innermost(f), "__name__", type(f).__name__)


def new_object(cls):
    """An object of a class whose constructor wants nothing. Raises CannotCheck where it wants something."""
    parameters = signature_of(cls).parameters.values()
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind not in STARRED]
    if wanted:
        raise CannotCheck(
            f"{cls.__name__} is a class whose constructor wants {', '.join(wanted)}: hand over an object of it, "
            f"check({cls.__name__}({', '.join(wanted)}), x)."
        )
    try:
        return cls()
    except Exception as error:  # whatever the user's code may raise
        raise raised(f"{cls.__name__}()", error) from error


# ------------------------------------------------------------------------------------------ forward(ctx, x)


class Context:
    """What forward(ctx, …) and backward(ctx, dy) share: any attribute, and what save_for_backward was given."""

    saved_tensors = saved_values = ()

    def save_for_backward(self, *values):
        self.saved_tensors = self.saved_values = self.saved = values


def is_static(cls):
    """Whether a class holds forward(ctx, …) and backward(ctx, dy) as functions, without objects."""
    forward = inspect.getattr_static(cls, "forward", None)
    return isinstance(forward, (staticmethod, classmethod)) and takes_context(cls.forward) and hasattr(cls, "backward")


def takes_context(function):
    """Whether the first parameter is the context of a torch.autograd.Function."""
    return callable(function) and next(iter(signature_of(function).parameters), None) in ("ctx", "context")


def with_context(name, forward, backward):
    """Functions of a context, as torch and its likes have them, as one that returns its own backward."""

    @functools.wraps(forward)
    def with_new_context(*args, **kwargs):
        ctx = Context()
        return forward(ctx, *args, **kwargs), lambda *cotangents: backward(ctx, *cotangents)

    parameters = list(inspect.signature(forward).parameters.values())[1:]
    with_new_context.__signature__ = inspect.Signature(parameters)
    return Functions(name, with_new_context, None, None)
