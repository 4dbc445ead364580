"""A forward pass and a backward pass as two functions, or as two methods: what of the one is handed to the other.

    out, cache = forward(x, w);            backward(dout, cache)
    h, c, cache = step(x, h, c, w);        backward(dh, dc, cache)
    out = forward(x, w);                   backward(dout, x, w)
    loss, cache = forward(x, labels);      backward(cache)

The names and the number of backward's parameters decide.
"""

import inspect
import re
from typing import NamedTuple

from ..refusals import CannotCheck
from .arrays import described, is_array
from .returned import Outputs, Read, is_one_number

CACHE = re.compile(r"cache|ctx|context|saved|tape|memo", re.IGNORECASE)
COTANGENT = re.compile(  # dout, dnext_h, grad_output, delta, upstream, g, out_grad, y_bar; not dim, dropout_param …
    r"^(d(?!im|il|type|ata|rop|ict|ept|ev|ebug|efault)|∂|grad|g$|g_|gy|delta|up|err|cot|ct$|v$|adj|bar|top_)"
    r"|(grad|gradient|bar|delta|diff)s?$",
    re.IGNORECASE,
)
RATE = re.compile(r"lr|learning_?rate|eta|step_?size", re.IGNORECASE)
OUTPUT = re.compile(r"^(y|a|z|h|s|p|out\w*|y_?hat|probs?|scores?|result|activation\w*)$", re.IGNORECASE)


class Plan(NamedTuple):
    """How a backward pass is called: the role of each of its parameters in order, and how many outputs there are."""

    roles: dict  # {parameter: "cotangent", "cache", "argument", "output", "rate"}
    outputs: int
    spread: bool  # *cache takes what is left


def with_backward(result, call):
    """The `Read` of a forward pass whose backward was handed over. Raises CannotCheck where the two do not fit."""
    parts = list(result) if isinstance(result, (tuple, list)) and len(result) > 1 and not_numbers(result) else [result]
    try:
        parameters = inspect.signature(call.backward).parameters
    except (ValueError, TypeError):
        parameters = {"dy": inspect.Parameter("dy", inspect.Parameter.POSITIONAL_ONLY)}
    plan = make_plan(parameters, parts, call)
    outputs = Outputs(parts[0] if plan.outputs == 1 else tuple(parts[: plan.outputs]))
    if not outputs.arrays:
        raise CannotCheck(f"{call.name} returned {described(parts[0])} where its output is due: an array of floats.")
    is_loss = "cotangent" not in plan.roles.values()
    if is_loss and not is_one_number(outputs.given[0]):
        raise CannotCheck(
            f"backward of {call.name} takes ({', '.join(parameters)}), which is no cotangent, but the output has shape "
            f"{outputs.arrays[0].shape}: only a loss, one number, has a backward without. Name it backward(dout, …)."
        )

    def pull(cotangents):
        left = iter([outputs.filled(cotangents)] if plan.outputs == 1 and not is_loss else cotangents)
        rest = iter(parts[plan.outputs :])
        only_by_name = skipped(parameters, plan)
        positional, named = [], {}
        for name, role in plan.roles.items():
            if role == "cotangent":
                value = next(left)
            elif role == "cache":
                value = next(rest)
            elif role == "rate":  # of a step that backward takes at once: what it subtracts is the gradient
                value = 1.0
            else:
                value = call.arguments[name] if role == "argument" else parts[0]
            if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY or name in only_by_name:
                named[name] = value
            else:
                positional.append(value)
        spread = list(rest) if plan.spread else []
        if len(spread) == 1 and isinstance(spread[0], (tuple, list)):
            spread = spread[0]
        return call.backward(*positional, *spread, **named)

    takes_step = "rate" in plan.roles.values() and call.subject is not None
    return Read(outputs, pull, is_loss, is_pair=True, takes_step=takes_step)


def skipped(parameters, plan):
    """The parameters after one that keeps its default: they can only be given by name."""
    names = list(parameters)
    first = next((i for i, name in enumerate(names) if name not in plan.roles), len(names))
    return names[first:]


def make_plan(parameters, parts, call):
    """Give every parameter of backward a role: by its name where that says one, else by its place."""
    usual = [p for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    spread = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    roles, unknown = {}, []
    for p in usual:
        if CACHE.search(p.name) and (len(parts) > 1 or p.name not in call.arguments):
            roles[p.name] = "cache"
        elif p.name in call.arguments:
            roles[p.name] = "argument"
        elif COTANGENT.search(p.name):
            if p.default is p.empty or not is_one_number(parts[0]):  # backward(dout=1) of a loss is called without
                roles[p.name] = "cotangent"
        elif RATE.fullmatch(p.name):
            roles[p.name] = "rate"
        elif p.default is p.empty:
            unknown.append(p.name)
    cotangents = [name for name in roles if roles[name] == "cotangent"]
    caches = [name for name in roles if roles[name] == "cache"]
    available = len(parts) - max(1, len(cotangents))
    if not cotangents and usual and (len(caches) + len(unknown) > available or not is_one_number(parts[0])):
        first = unknown.pop(0) if unknown else next((n for n in roles if roles[n] != "cache"), None)
        if first is not None:
            roles[first] = "cotangent"
            cotangents = [first]
    elif spread and not roles and not unknown:  # backward(*cotangents)
        raise CannotCheck(f"backward of {call.name} takes only *arguments: name the first of them, backward(dout, …).")
    available = len(parts) - max(1, len(cotangents)) - len(caches)
    for name in unknown:
        if available > 0:
            roles[name], available = "cache", available - 1
        elif OUTPUT.match(name) and is_array(parts[0]):
            roles[name] = "output"
        else:
            free = [argument for argument in call.arguments if argument not in parameters]
            raise CannotCheck(
                f"backward of {call.name} wants {name}, which is not among what the forward returned "
                f"({len(parts)} value{'s' * (len(parts) > 1)}) or took ({', '.join(free) or 'nothing more'})."
            )
    if available < 0:
        raise CannotCheck(
            f"backward of {call.name} takes ({', '.join(parameters)}), but the forward returned only "
            f"{len(parts)} value{'s' * (len(parts) > 1)}: {', '.join(map(described, parts))}. "
            "Taken is: out, cache = forward(x, …), and backward(dout, cache)."
        )
    ordered = {name: roles[name] for name in parameters if name in roles}
    return Plan(ordered, max(1, len(cotangents)), spread)


def not_numbers(result):
    return not all(isinstance(part, (int, float)) for part in result)
