"""Functions of torch: tensors, `nn.Module`, and `torch.autograd.Function`, with gradients by torch's autograd.

What autograd gives is what the backward passes of its functions claim, so a Function of one's own is checked as any
layer. torch is never imported here: whoever hands over tensors has done so.
"""

import copy
import functools
import inspect

from ..refusals import CannotCheck
from .arrays import is_tensor, torch_module
from .returned import Outputs, Read, leaves_of


def is_module(f):
    """Whether f is a module of torch."""
    torch = torch_module()
    return torch is not None and hasattr(torch, "nn") and isinstance(f, torch.nn.Module)


def function_class(f):
    """The subclass of torch.autograd.Function that f is, or whose `apply` it is; else None."""
    torch = torch_module()
    if torch is None or not hasattr(torch, "autograd"):
        return None
    owner = f if inspect.isclass(f) else getattr(f, "__self__", None)
    return owner if inspect.isclass(owner) and issubclass(owner, torch.autograd.Function) else None


def applied(function):
    """`apply` of a torch.autograd.Function, with the names that its forward gives to the arguments."""

    @functools.wraps(function.forward)
    def apply(*args, **kwargs):
        return function.apply(*args, **kwargs)

    parameters = list(inspect.signature(function.forward).parameters.values())
    separate = function.setup_context is not torch_module().autograd.Function.setup_context
    apply.__signature__ = inspect.Signature(parameters if separate else parameters[1:])  # else the first is ctx
    return apply


class ModuleSubject:
    """An `nn.Module`: its parameters {name: Parameter}, and copies of it with others, as `objects.Subject` has them."""

    rates = ()

    def __init__(self, module, functions, generators):
        self.module, self.functions, self.kept = module, functions, generators
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def values(self):
        """{name: Parameter}."""
        return self.parameters

    def notes(self):
        return []

    def gradients(self, used, before=None):
        """{}: torch has them."""
        return {}

    def copy(self, values):
        """A new module and its functions, all in the dtype of {name: tensor}."""
        torch = torch_module()
        new = {name: torch.nn.Parameter(values[name]) for name in self.parameters if name in values}
        memo = self.kept | {id(self.parameters[name]): parameter for name, parameter in new.items()}
        module, functions = copy.deepcopy((self.module, self.functions), memo)
        floats = [value for value in values.values() if is_tensor(value) and value.is_floating_point()]
        if floats:  # what else it holds, such as running means
            module.to(floats[0].dtype)
        values.update(new)
        return module, functions


def track(values, names):
    """Let autograd follow what is differentiated of {name: array} -> {name: tensor}, None of what is no tensor."""
    followed = {name: values[name] if is_tensor(values.get(name)) else None for name in names}
    for tensor in filter(is_tensor, followed.values()):
        tensor.requires_grad_(True)
    return followed


def with_autograd(result, followed):
    """The `Read` of tensors that a function returned, given what `track` did."""
    outputs = Outputs({key: y for key, y in leaves_of(result) if is_tensor(y)})
    tensors = {name: tensor for name, tensor in followed.items() if is_tensor(tensor)}

    def pull(cotangents):
        pairs = [(y, c.to(y.dtype)) for y, c in zip(outputs.given, cotangents) if y.requires_grad]
        if not pairs:
            raise CannotCheck(
                "autograd does not follow the output: it was detached, made anew, or computed under torch.no_grad()."
            )
        ys, cs = zip(*pairs)
        inputs = list(tensors.values())
        found = torch_module().autograd.grad(ys, inputs, cs, allow_unused=True, retain_graph=True)
        gradients = {name: gradient for name, gradient in zip(tensors, found) if gradient is not None}
        return gradients | {name: None for name in followed if name not in tensors}

    return Read(outputs, pull, False)
