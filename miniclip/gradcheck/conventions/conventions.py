"""How people write a forward pass and its backward pass, and how both are called.

    y, backward = f(x, w)                                      a layer that returns its own backward
    y, cache = forward(x, w); dx, dw = backward(dy, cache)     check(forward, x, w, backward=backward)
    loss, gradients = f(x, w)                                  a loss with its gradients
    loss = f(x, w); dx, dw = gradient(x, w)                    check(f, x, w, gradient=gradient)

What f returned decides, once it has run.
"""

import inspect
import types
from typing import NamedTuple

import numpy as np

from ..refusals import MANNERS, CannotCheck
from .arguments import IN_ORDER, children, signature_of
from .arrays import described, is_array, is_tensor, kind
from .naming import is_keyed, resolve
from .objects import OUTPUT_NAMES
from .pairs import COTANGENT, with_backward
from .returned import Outputs, Read, is_one_number, leaves_of
from .torch_layer import with_autograd


class Call(NamedTuple):
    """One call of a forward pass: the function's name, its arguments, and what was handed over beside it."""

    name: str
    arguments: dict  # {name: argument}
    again: object  # () -> args, kwargs: the same arrays with new constants
    backward: object = None
    gradient: object = None
    is_explicit: bool = False  # whether these were handed over, and are not methods of f
    subject: object = None  # the object whose methods these are
    tensors: dict = {}  # {name: tensor} whose gradients are torch's, or None of an array that is no tensor


def read_result(result, call):
    """The `Read` of what a forward pass returned. Raises CannotCheck where it is of no known manner."""
    if call.gradient is not None and (call.is_explicit or is_one_number(result)):
        return with_gradient(result, call)
    if call.backward is not None and not callable(call.backward):
        raise CannotCheck(
            f"backward= is {described(call.backward)}: hand over the function, backward=f, not backward=f(x)."
        )
    if result is None and call.subject is not None:  # some leave it on the object
        result = next((getattr(call.subject, name) for name in OUTPUT_NAMES if hasattr(call.subject, name)), None)
    parts = list(result) if isinstance(result, (tuple, list)) and len(result) > 1 else []
    if parts and is_function(parts[-1]) and not call.is_explicit:
        return own_backward(parts[:-1], parts[-1], call)
    if call.backward is not None:
        return with_backward(result, call)
    split = loss_and_gradients(parts) if parts else None
    tensors = [tensor for tensor in call.tensors.values() if is_tensor(tensor)]
    if tensors and any(is_tensor(y) for _, y in leaves_of(result)):
        if split is None or call.subject is not None or not have_shapes_of(split[1], tensors):
            return with_autograd(result, call.tensors)
    if split:
        loss, gradients = split
        return Read(Outputs(loss), lambda cotangents: gradients, True, may_omit=True)
    if call.subject is not None and is_one_number(result):  # the gradients may be on the object
        return Read(Outputs(result), lambda cotangents: None, True, may_omit=True)
    raise CannotCheck(refusal(result, parts, call))


def is_function(x):
    """Whether x can be called, and is no array."""
    return callable(x) and not is_array(x)


def loss_and_gradients(parts):
    """(loss, gradients) where one is a number and all the rest are arrays or trees of arrays of floats, else None.

    The gradients may come first where they are in a dict or a list.
    """
    first, *rest = parts
    if is_one_number(first) and all(holds_floats(part) for part in rest):
        return first, rest[0] if len(rest) == 1 else tuple(rest)
    if len(rest) == 1 and is_one_number(rest[0]) and holds_floats(first) and children(first):
        return rest[0], first
    return None


def have_shapes_of(gradients, tensors):
    """Whether tensors may be gradients of these: a loss may also be returned beside what it was computed from."""
    left = iter(tensors)
    found = [gradient for _, gradient in leaves_of(gradients) if gradient is not None]
    return all(any(np.shape(gradient) == np.shape(tensor) for tensor in left) for gradient in found)


def holds_floats(x):
    """Whether x is an array of floats, or a tree of arrays of floats and None, as gradients are."""
    parts = children(x)
    if not parts or kind(x) in ("f", "c"):  # complex where the arguments are
        return kind(x) in ("f", "c")
    return all(part is None or holds_floats(part) for part in parts.values())


def refusal(result, parts, call):
    """What f returned, and what is taken instead: a sentence."""
    what = call.name
    if result is None:
        return f"{what} returned nothing (None): does its last line say return? {MANNERS}"
    if is_function(result):
        return f"{what} returned a function and no output: return both, y, backward. {MANNERS}"
    if parts and is_function(parts[0]):
        return f"{what} returned a function first: return the output first, y, backward. {MANNERS}"
    if parts:
        shown = ", ".join(described(part) for part in parts)
        return (
            f"{what} returned {len(parts)} values ({shown}) and no function: if the last is a cache, hand over what "
            f"takes it, check({what}, …, backward=backward). {MANNERS}"
        )
    if is_one_number(result):
        return f"{what} returned one number and no gradient of it: check({what}, …, gradient=its_gradient). {MANNERS}"
    if is_array(result):
        return (
            f"{what} returned an array, {described(result)}, and no backward pass: return y, backward, or hand it "
            f"over, check({what}, …, backward=backward). {MANNERS}"
        )
    return f"{what} returned {described(result)}. {MANNERS}"


def count_parameters(function):
    """(least, most) number of arguments in order that a function takes."""
    if plain := innermost(function):  # the same, and quicker
        code = plain.__code__
        most = float("inf") if code.co_flags & inspect.CO_VARARGS else code.co_argcount
        return code.co_argcount - len(plain.__defaults__ or ()), most
    parameters = signature_of(function).parameters.values()
    in_order = [p for p in parameters if p.kind in IN_ORDER]
    most = float("inf") if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(in_order)
    return sum(p.default is p.empty for p in in_order), most


def innermost(function):
    """The function whose signature this one has, under its decorators; None where another object is among them."""
    for _ in range(100):  # for one may be wrapped in itself
        if type(function) is not types.FunctionType or hasattr(function, "__signature__"):
            return None
        if not hasattr(function, "__wrapped__"):
            return function
        function = function.__wrapped__
    return None


def refuse_shape(y, call):
    """Raise CannotCheck where an output is not one number."""
    if not is_one_number(y):
        shown = f"has shape {tuple(y.shape)}" if is_array(y) else f"is {described(y)}"
        raise CannotCheck(
            f"{call.name}: the output {shown}; a loss, or what is checked with gradient=, must return one number."
        )


def own_backward(returned, backward, call):
    """y, backward = f(…): backward takes a cotangent for each output, or all in one; that of a loss takes nothing.

    Where it takes one alone, dout, what else was returned is no output: as the weights beside what attention gives.
    """
    least, most = count_parameters(backward)
    one_is_enough = most == 1 and takes_one(backward) or most == 0 and is_one_number(returned[0])
    y = returned[0] if len(returned) == 1 or one_is_enough else tuple(returned)
    outputs = Outputs(y)
    count = len(outputs.arrays)
    if isinstance(y, dict) and (names := by_key(backward, y)):
        return Read(outputs, lambda cotangents: backward(**dict(zip(names, cotangents))), False)
    if most == 0 or least == 0 and count == 1 and most < float("inf") and is_one_number(outputs.given[0]):
        refuse_shape(y, call)
        return Read(outputs, lambda cotangents: backward(), True)
    if not count:
        raise CannotCheck(f"{call.name} returned {described(y)} where its output is due. {MANNERS}")
    if count == 1 and not is_keyed(y) or 1 < count and least <= count <= most:  # one, also with integers beside it
        return Read(outputs, lambda cotangents: backward(*cotangents), False)
    return Read(outputs, lambda cotangents: backward(outputs.filled(cotangents)), False)


def takes_one(backward):
    """Whether the name of the first parameter is that of one cotangent, dout, and not of several, dys."""
    plain = innermost(backward)
    name = plain.__code__.co_varnames[0] if plain else next(iter(signature_of(backward).parameters))
    return len(name) > 1 and bool(COTANGENT.search(name)) and not name.endswith("s")


def by_key(backward, y):
    """The parameters of backward in the order of the dict of outputs whose names they bear, or []."""
    parameters = signature_of(backward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return list(y)
    meant = {resolve(name, y): name for name in parameters}
    return [meant[key] for key in y] if meant.keys() == y.keys() else []


def with_gradient(result, call):
    """f returns one number, and its gradient is handed over: a function of the same arguments, or its value."""
    refuse_shape(result, call)

    def pull(cotangents):
        if not callable(call.gradient):
            return call.gradient
        args, kwargs = call.again()
        return call.gradient(*args, **kwargs)

    return Read(Outputs(result), pull, True, may_omit=True)
