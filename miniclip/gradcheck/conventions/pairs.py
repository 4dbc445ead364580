"""A forward pass and a backward pass as two functions, or as two methods: what of the one is handed to the other.

    out, cache = forward(x, w);            backward(dout, cache)
    h, c, cache = step(x, h, c, w);        backward(dh, dc, cache)
    out = forward(x, w);                   backward(dout, x, w)
    loss, cache = forward(x, labels);      backward(cache)

The names and the number of backward's parameters decide.
"""

import re

from ..refusals import CannotCheck
from .arguments import STARRED, signature_of
from .arrays import described, is_array, is_number
from .objects import RATE
from .returned import Outputs, Read, is_one_number

CACHE = re.compile(r"cache|ctx|context|saved|tape|memo", re.IGNORECASE)
COTANGENT = re.compile(  # dout, dnext_h, grad_output, delta, upstream, g, out_grad, y_bar; not dim, dropout_param …
    r"^(d(?!im|il|type|ata|rop|ict|ept|ev|ebug|efault)|∂|grad|g$|g_|gy|delta|up|err|cot|ct$|v$|adj|bar|top_)"
    r"|(grad|gradient|bar|delta|diff)s?$",
    re.IGNORECASE,
)
OUTPUT = re.compile(r"^(y|a|z|h|s|p|out\w*|y_?hat|probs?|scores?|result|activation\w*)$", re.IGNORECASE)


def with_backward(result, call):
    """The `Read` of a forward pass whose backward was handed over. Raises CannotCheck where the two do not fit."""
    several = isinstance(result, (tuple, list)) and len(result) > 1
    parts = list(result) if several and not all(isinstance(part, (int, float)) for part in result) else [result]
    parameters = signature_of(call.backward).parameters
    is_starred = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    roles = roles_of(parameters, parts, call)
    count = max(1, roles_named(roles, "cotangent"))
    outputs = Outputs(parts[0] if count == 1 else tuple(parts[:count]))
    if not outputs.arrays:
        raise CannotCheck(f"{call.name} returned {described(parts[0])} where its output is due: an array of floats.")
    is_loss = "cotangent" not in roles.values()
    if is_loss and not is_one_number(outputs.given[0]):
        raise CannotCheck(
            f"backward of {call.name} takes ({', '.join(parameters)}), which is no cotangent, but the output has shape "
            f"{outputs.arrays[0].shape}: only a loss, one number, has a backward without. Name it backward(dout, …)."
        )

    def pull(cotangents):
        left = iter([outputs.filled(cotangents)] if count == 1 and not is_loss else cotangents)
        caches = len(parts) - roles_named(roles, "cache")  # are the last, also where not all outputs have a cotangent
        rest = iter(parts[count:] if is_starred else parts[max(caches, count) :])
        take = {
            "cotangent": lambda name: next(left),
            "cache": lambda name: next(rest),
            "argument": lambda name: call.arguments[name],
            "output": lambda name: parts[0],
            "rate": lambda name: 1.0,  # of a step that backward takes at once: what it subtracts is the gradient
        }
        values = {name: take[role](name) for name, role in roles.items()}
        in_order, by_name, is_skipped = [], {}, False
        for p in parameters.values():
            if p.kind is p.VAR_POSITIONAL:  # backward(dout, *cache)
                spread = list(rest)
                is_one = len(spread) == 1 and isinstance(spread[0], (tuple, list))
                in_order += spread[0] if is_one else spread
            elif p.name not in values:
                is_skipped = True  # keeps its default; what follows can only be given by name
            elif is_skipped or p.kind is p.KEYWORD_ONLY:
                by_name[p.name] = values[p.name]
            else:
                in_order.append(values[p.name])
        return call.backward(*in_order, **by_name)

    takes_step = "rate" in roles.values() and call.subject is not None
    return Read(outputs, pull, is_loss, may_omit=is_number(parts[0]), takes_step=takes_step)


def roles_named(roles, role):
    """How many parameters of a backward pass have this role."""
    return list(roles.values()).count(role)


def roles_of(parameters, parts, call):
    """{parameter of backward: "cotangent", "cache", "argument", "output" or "rate"}, in order.

    By its name where that says one, else by its place. Raises CannotCheck where there is nothing to hand over.
    """
    usual = [p for p in parameters.values() if p.kind not in STARRED]
    roles, unknown = {}, []
    for p in usual:
        if CACHE.search(p.name) and (len(parts) > 1 or p.name not in call.arguments):
            roles[p.name] = "cache"
        elif p.name in call.arguments:
            roles[p.name] = "argument"
        elif isinstance(p.default, (bool, str)):
            continue  # retain_grads=True is a setting
        elif COTANGENT.search(p.name):
            if p.default is p.empty or not is_one_number(parts[0]):  # backward(dout=1) of a loss is called without
                roles[p.name] = "cotangent"
        elif RATE.fullmatch(p.name):
            roles[p.name] = "rate"
        elif p.default is p.empty:
            unknown.append(p.name)
    available = len(parts) - 1 - roles_named(roles, "cache")
    if "cotangent" not in roles.values() and usual and (len(unknown) > available or not is_one_number(parts[0])):
        first = unknown.pop(0) if unknown else next((n for n in roles if roles[n] != "cache"), None)
        if first is not None:
            roles[first] = "cotangent"
    elif len(usual) < len(parameters) and not roles and not unknown:  # backward(*cotangents)
        raise CannotCheck(f"backward of {call.name} takes only *arguments: name the first of them, backward(dout, …).")
    available -= max(1, roles_named(roles, "cotangent")) - 1
    values = f"{len(parts)} value{'s' * (len(parts) > 1)}"
    for name in unknown:
        if available > 0:
            roles[name], available = "cache", available - 1
        elif OUTPUT.match(name) and is_array(parts[0]):
            roles[name] = "output"
        else:
            free = [argument for argument in call.arguments if argument not in parameters]
            raise CannotCheck(
                f"backward of {call.name} wants {name}, which is not among what the forward returned "
                f"({values}) or took ({', '.join(free) or 'nothing more'})."
            )
    if available < 0:
        raise CannotCheck(
            f"backward of {call.name} takes ({', '.join(parameters)}), but the forward returned only "
            f"{values}: {', '.join(map(described, parts))}. "
            "Taken is: out, cache = forward(x, …), and backward(dout, cache)."
        )
    return {name: roles[name] for name in parameters if name in roles}
