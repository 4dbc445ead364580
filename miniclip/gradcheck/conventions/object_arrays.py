"""The arrays that an object holds, layers within it included, and where it holds their gradients."""

import inspect

from .arrays import is_array, is_float, is_number_list
from .naming import plain_names, resolve

VALUES = (".data", ".value", ".val", ".array")  # of a parameter that is an object of its own
CONTAINERS = ("params", "parameters", "weights", "biases", "param", "_params", "_parameters", "theta", "model", "coefs")
GRADIENTS = ("grads", "grad", "gradients", "gradient", "_grads", "dparams", "d_params", "param_grads")


def is_attribute(step):
    """Whether a step of a path is an attribute, ".W", and not a key or a number."""
    return isinstance(step, str) and step.startswith(".")


class Place:
    """Where an object holds an array: the path to it, attributes ("." + name) and keys, and what it is called."""

    def __init__(self, path, value):
        self.path, self.value = path, value
        self.steps = steps = [str(step).removeprefix(".") for step in path]
        self.is_array = type(value) is not float
        self.is_boxed = path[-1] in VALUES  # a parameter object: W.data is W
        shown = steps[:-1] if self.is_boxed and len(steps) > 1 else steps
        self.full_name = ".".join(shown)
        named = [isinstance(step, str) for step in (*path[1:], "")]  # params["W"] is W, params[0] is params.0
        self.name = ".".join(
            step for i, step in enumerate(shown) if step not in CONTAINERS or i == len(shown) - 1 or not named[i]
        )


def follow(subject, path):
    """The object at the end of a path from `subject`, or None."""
    for step in path:
        try:
            subject = getattr(subject, step[1:]) if is_attribute(step) else subject[step]
        except (AttributeError, KeyError, IndexError, TypeError):
            return None
    return subject


def put(subject, path, value):
    """Replace what stands at the end of a path."""
    owner, last = follow(subject, path[:-1]), path[-1]
    if is_attribute(last):
        setattr(owner, last[1:], value)
    else:
        owner[last] = value


def parts_of(x):
    """{step: part} of an object of the user's, a dict, or a list."""
    if isinstance(x, dict):
        return x
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return {f".{name}": part for name, part in zip(x._fields, x)}
    if isinstance(x, (list, tuple)):
        return dict(enumerate(x))
    if isinstance(x, type) or callable(x) and not hasattr(x, "__dict__") or inspect.isroutine(x) or inspect.ismodule(x):
        return {}
    if type(x).__module__.partition(".")[0] in ("numpy", "builtins", "torch", "cupy"):
        return {}
    slots = [name for cls in type(x).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(x, name)]
    return {f".{name}": getattr(x, name) for name in [*getattr(x, "__dict__", {}), *slots]}


def places_in(subject, is_meant=is_float):
    """The `Place` of all that is meant in an object and its layers: of arrays and lists of floats, and of floats."""
    found, seen, queue = [], set(), [((), subject)]
    while queue:
        path, x = queue.pop(0)
        if is_meant(x):
            found.append(Place(path, x))
        elif id(x) not in seen and len(path) < 8:
            seen.add(id(x))
            queue += [((*path, step), part) for step, part in parts_of(x).items()]
    return found


def holds_arrays(x):
    """Whether an object of the user's, and no array itself, holds arrays of floats."""
    return bool(parts_of(x)) and any(place.is_array and place.path for place in places_in(x))


def gradient_at(subject, place):
    """The gradient that an object holds for one of its parameters, or None: W.grad, dW, grads["W"], grads["dW"]."""
    path = place.path
    if place.is_boxed:
        owner, path = follow(subject, path[:-1]), path[:-1]
        for name in ("grad", "gradient", "g", "d"):
            held = getattr(owner, name, None)
            if held is not None and not callable(held):
                return held
    last = max((i for i, step in enumerate(path) if is_attribute(step)), default=None)
    if last is None:
        return None
    around = parts_of(follow(subject, path[:last]))
    holder = {step[1:]: part for step, part in around.items() if is_attribute(step)}
    for gradient, keys, like in held_near(holder, path[last][1:], path[last + 1 :]):
        for key in keys:
            gradient, like = entry_of(gradient, key, like), follow(like, [key])
        if is_array(gradient) or isinstance(gradient, float) or is_number_list(gradient):
            return gradient
    return None


def held_near(holder, name, keys):
    """Where the gradient of holder.name, or of what `keys` lead to from there, may be: (container, keys, its like)."""
    value = holder.get(name)
    for other in partners(name, holder):  # self.dW, or self.dW[0] for self.W[0]
        yield holder[other], keys, value
    if keys and name not in CONTAINERS:  # self.m["W"] of an optimiser, and self.x of a cache, are no parameters
        return
    for other in GRADIENTS:  # self.grads["W"] for self.W and for self.params["W"]
        if other in holder:
            yield (holder[other], keys, value) if keys else (holder[other], [name], None)
    if keys and isinstance(keys[0], str):  # self.dW for self.params["W"]
        for other in partners(keys[0], holder):
            yield holder[other], keys[1:], follow(value, keys[:1])


def partners(name, holder):
    """The attributes of which `name` says that they hold its gradient."""
    plain = name.lstrip("_")
    named = {other: plain_names(other.lstrip("_"))[1:] for other in holder if other != name}
    exact = [other for other, meant in named.items() if plain in meant or other == f"g{plain}"]
    loose = [other for other, meant in named.items() if plain.lower() in map(str.lower, meant)]
    return exact or (loose if len(loose) == 1 else [])


def entry_of(gradients, key, container):
    """The entry for `key` in a dict or list of gradients, or None; in a list, by the order of the dict `container`."""
    if isinstance(gradients, dict):
        names = [name for name in gradients if key in plain_names(name)] or [resolve(key, gradients)]
        return gradients.get(names[0])
    if isinstance(gradients, (list, tuple)):
        order = list(container) if isinstance(container, dict) else list(range(len(container or ())))
        return gradients[order.index(key)] if key in order and len(gradients) == len(order) else None
    return None
