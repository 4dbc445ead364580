"""Arguments without a gradient that are no fault: the examples, labels and masks of a loss, the input of a network."""

import re

from ..refusals import looks_like_data
from .arguments import children
from .object_arrays import follow
from .objects import BACKWARDS, LEARNED, method_of

EXAMPLES = re.compile(r"(x|y|t|data|inputs?|images?|features?|samples?|batch|examples?)(_\w+)?", re.IGNORECASE)


def is_data(name, leaves, claimed, returned):
    """Whether an argument is data where a loss gives gradients of others alone.

    Its name or its values say so; or one array was returned, the gradient of one argument of a function of many, and
    not that of a weight where this is the bias.
    """
    if EXAMPLES.fullmatch(name) or any(looks_like_data(name, leaf) for leaf in leaves):
        return True
    is_one = not children(returned)
    return is_one and not (LEARNED.fullmatch(name) and any(LEARNED.fullmatch(other) for other in claimed))


def is_network(subject):
    """Whether a `Subject` holds layers, or the parameters of several, and may give no gradient of its input."""
    steps = [(place.path[: i + 1], step) for place in subject.candidates for i, step in enumerate(place.steps)]
    return any(
        re.search(r"[A-Za-z]_?\d+$", step) or method_of(follow(subject.original, path), BACKWARDS)
        for path, step in steps
    )
