"""What reading other people's files needs: words for what is wrong, and bounds on what is made of a few bytes.

Python's objects are large: the two bytes `[]` become 72, and whoever forges a file can write many of them. So what
a file is about to cost is estimated first, and a file that would take many times its own size is refused.
"""

import json

FREE = 1 << 18  # bytes that any file may cost
# About what json.loads makes of a character that opens, ends or parts something, in bytes.
JSON_COSTS = {"{": 232, "[": 80, ":": 100, '"': 26, ",": 20}
MOST_TIMES = 15  # a file's own size, for its JSON; a vocabulary takes 12


class Damaged(ValueError):
    """What is wrong with a file, in words that are ours: other exceptions speak of Python."""


def in_our_words(error, otherwise="its parts make no sense together"):
    """One line about an exception from reading a file: its own words where they are ours."""
    return " ".join(str(error if isinstance(error, Damaged) else otherwise).split())[:300]


def kind_of(value):
    """What kind of value this is, in a word."""
    return type(value).__name__.removesuffix("Type")


class Budget:
    """How many bytes may still be made of a file: this amount, and `FREE`."""

    def __init__(self, amount):
        self.left = FREE + amount

    def spend(self, amount):
        """Raises Damaged where nothing is left."""
        self.left -= amount
        if self.left < 0:
            raise Damaged("it describes far more than its size, as no model does")


def parse_json(content, unique=True):
    """What JSON text (str or bytes) says; unique: a name twice in one object is refused.

    Raises Damaged for what is no JSON, or takes many times its own size.
    """
    budget = Budget(MOST_TIMES * len(content))
    for sign, cost in JSON_COSTS.items():
        budget.spend(cost * content.count(sign.encode() if isinstance(content, bytes) else sign))
    try:
        return json.loads(content, object_pairs_hook=_once_each if unique else None)
    except Damaged:
        raise
    except RecursionError:
        raise Damaged("its JSON is nested too deep") from None
    except json.JSONDecodeError as error:
        raise Damaged(f"it is no JSON from line {error.lineno}, column {error.colno} on") from None
    except ValueError:  # bytes that are no text, or a number of more than 4,300 digits
        raise Damaged("it is no JSON that can be read") from None


def _once_each(pairs):
    whole = dict(pairs)
    if len(whole) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Damaged(f"it says {twice[:40]!r} twice")
    return whole
