"""Second derivatives: the gradient of the gradient, checked as a layer of its own.

A gradient ∇F(x) = Jᵀ c is a function of x like any other, and H v, with the Hessian H of F, is its backward. So those
who have second derivatives hand them over in one of two ways:

    y, backward = f(x);  dx, backward2 = backward(dy);  dx2 = backward2(v)     # ∂⟨v, dx⟩/∂x at the same dy
    check(f, x, gradient=g, hessian=h, order=2)                                # h(x): x.shape + x.shape

With gradient= alone, that is the layer: dx, backward2 = g(x). A complex step through the code of the gradient gives
its slope to the last digit (Squire & Trapp 1998), with no difference of differences. PyTorch's functions need nothing.
"""

import functools
import inspect
import sys

import numpy as np

from .conventions import as_layer
from .refusals import CannotCheck

HOW = "order=2 needs second derivatives: let backward return its gradients and a backward of its own, or give hessian=."


def first_order(f, gradient):
    """f and gradient without their second derivatives, for the check of the first."""

    def first(result):
        return result[0] if has_backward(result) and len(result) == 2 else result

    if gradient is not None:
        return f, functools.wraps(gradient)(lambda *args: first(gradient(*args))) if callable(gradient) else gradient

    @functools.wraps(f)
    def layer(*args, **kwargs):
        result = f(*args, **kwargs)
        if not has_backward(result):
            return result
        *outputs, backward = result
        return *outputs, functools.wraps(backward)(lambda *dy: first(backward(*dy)))

    return (layer if inspect.isfunction(f) else f), gradient


def second_order(f, args, kwargs, gradient, hessian, exclude, wrt, seed):
    """The gradient of f as a `Layer`, whose backward is f's second derivative.

    Raises CannotCheck where f has none, or where its shape is wrong.
    """
    if hessian is not None:
        return with_hessian(f, args, kwargs, gradient, hessian, exclude, wrt)
    if callable(gradient):
        return as_layer(gradient, args, kwargs, exclude=exclude, wrt=wrt)
    torch = sys.modules.get("torch")

    def cotangents(outputs):
        rng = np.random.default_rng([seed, *b"second order"])
        return [np.asarray(rng.standard_normal(np.shape(y))) for y in outputs]

    @functools.wraps(f)
    def layer(*args, **kwargs):
        result = f(*args, **kwargs)
        if torch and isinstance(result, torch.Tensor):
            dy = torch.as_tensor(cotangents([result.detach()])[0])
            inputs = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
            return torch.autograd.grad(result, inputs, dy, create_graph=True, allow_unused=True)
        if not has_backward(result):
            raise CannotCheck(HOW)
        *outputs, backward = result
        gradients = backward(*cotangents(outputs)) if inspect.signature(backward).parameters else backward()
        if not has_backward(gradients):
            raise CannotCheck(HOW)
        return gradients

    return as_layer(layer, args, kwargs, exclude=exclude, wrt=wrt)


def with_hessian(f, args, kwargs, gradient, hessian, exclude, wrt):
    """The gradient of a function of one argument as a layer, by its Hessian."""
    base = as_layer(f, args, kwargs, gradient=gradient, exclude=exclude, wrt=wrt)
    if len(base.names) != 1:
        raise CannotCheck(
            f"hessian= is for a function of one array, and {base.name} has {', '.join(base.names)}: give wrt=."
        )
    (name,) = base.names
    shape = base.leaves[name].shape

    def layer(x):
        run = base.run({**base.leaves, name: x})
        slope = run.pull([np.ones(np.shape(y)) for y in run.outputs])[name]

        def backward(v):
            h = np.asarray(hessian(x) if callable(hessian) else hessian)
            if h.shape != shape + shape:
                raise CannotCheck(f"the Hessian of {name}, {shape}, must be {shape + shape}, not {h.shape}.")
            return np.tensordot(v, h, axes=v.ndim)

        return slope, backward

    layer.__name__ = f"gradient of {base.name}"
    layer.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY)])
    return as_layer(layer, (base.leaves[name],))


def has_backward(result):
    """Whether this is a tuple that ends in a function."""
    return isinstance(result, (tuple, list)) and len(result) > 1 and callable(result[-1])
