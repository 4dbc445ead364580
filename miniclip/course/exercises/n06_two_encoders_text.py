"""Notebook 6, the text encoder's end: a text is read where it ends."""

import numpy as np

from ...text_encoder import end_of_text
from ..exercise import Mistake
from .n06_two_encoders import encoders


def read_at_end(x, tokens, end_token):
    """What stands at the first end token of each row.

    x (N, T, D), tokens (N, T) integers, each row with an end_token -> y (N, D), backward; backward(dy) -> dx.
    """
    rows, at = np.arange(len(x)), (tokens == end_token).argmax(1)

    def backward(dy):
        dx = np.zeros_like(x)
        dx[rows, at] = dy
        return dx

    return x[rows, at], backward


def some_texts(r, n, t, d):
    """x (N, T, D), ids (N, T) with an end token in each row, and the id of the end token."""
    end = r.integer(3, 9)  # of ids up to 11: rarely the largest
    tokens = r.rng.integers(0, 12, (n, t))
    tokens[np.arange(n), r.rng.integers(0, t, n)] = end
    return r.normal(n, t, d), tokens, end


def filled(fill):
    """Texts with the end id 5 and `fill` behind it."""

    def draw(r):
        tokens = r.rng.integers(6, 9, (4, 6))
        for row, length in zip(tokens, (1, 3, 4, 5)):
            row[length], row[length + 1 :] = 5, fill
        return r.normal(4, 6, 3), tokens, 5

    return draw


def at(place):
    """A wrong reading, at another place: place(tokens, end) -> (N,)."""
    return lambda x, tokens, end_token: x[np.arange(len(x)), place(tokens, end_token)]


encoders.layer(
    read_at_end,
    points=4,
    draw=some_texts,
    traps={
        "filled up with zeros": filled(0),
        "filled up with end tokens": filled(5),
        "ids above the end token's": filled(7),
        "one row": lambda r: (r.normal(1, 4, 3), np.array([[2, 5, 1, 5]]), 5),
    },
    blind={
        "texts that all end at the same place": lambda x, tokens, end: (
            x,
            np.where(np.arange(x.shape[1]) == 1, end, 0 * tokens),
            end,
        ),
        "one text": lambda x, tokens, end: (x[:1], tokens[:1], end),
    },
    mistakes=(
        Mistake(
            "largest id",
            "it reads at the largest id: that is the end token in CLIP's own vocabulary, and in few others.",
            at(lambda tokens, end: tokens.argmax(1)),
        ),
        Mistake(
            "last place",
            "it reads at the last place: behind the end there is padding.",
            at(lambda tokens, end: tokens.shape[1] - 1),
        ),
        Mistake(
            "last end",
            "it reads at the last end token: some tokenizers fill up with it, so the first counts.",
            at(lambda tokens, end: tokens.shape[1] - 1 - (tokens == end)[:, ::-1].argmax(1)),
        ),
        Mistake(
            "one before", "it reads one token before the end.", at(lambda tokens, end: (tokens == end).argmax(1) - 1)
        ),
        Mistake("last place", "it reads at the first place: that one has seen nothing.", lambda x, t, e: x[:, 0]),
        Mistake("1/N", "it is the mean of all places.", lambda x, tokens, end: x.mean(1)),
        Mistake(
            "last end",
            "where the end token stands twice in a row, both are added: the first counts.",
            lambda x, tokens, end: (x * (tokens == end)[..., None]).sum(1),
        ),
    ),
    kinds={
        "largest id": "Compare each id with end_token. Where is the first that is equal?",
        "last place": "Texts differ in length. Where does each of them end?",
        "last end": "(tokens == end_token).argmax(1) finds the first: argmax takes the first of several equal ones.",
        "one before": "The end token itself is read: it is the only one that has seen the whole text.",
        "overwritten": "dx[:, at] is every row at every place. One place in each row wants two lists: rows, places.",
        "wrong axis": "dx[:, at] is every row at every place. One place in each row wants two lists: rows, places.",
        "mask": "One place in each row was read, and it alone hears something. Everywhere else dx is 0.",
    },
    hints=(
        "A comparison gives an array of true and false. argmax finds the first true in each row.",
        "x[rows, at], with rows = np.arange(N), takes one vector of each row.",
        "Backward: zeros everywhere, and dy at the places that were read.",
    ),
    forbidden=(end_of_text,),
)
