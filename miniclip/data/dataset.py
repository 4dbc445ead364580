"""What every data source hands out: pictures with captions to train on, and questions to be tested on.

A `PictureSet` says which thing (`concept`) each picture shows and what that thing may be called, so
that a batch can be drawn in which no two captions mean the same. An `Evaluation` is a multiple-choice
exam: pictures, the names to choose from, and the right answers.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class PictureSet:
    """Pictures to train on.

    name      what to call the set
    pictures  uint8 (M, S, S, 4), RGBA with straight (not premultiplied) alpha
    concept   int64 (M,), which thing a picture shows, 0 <= concept < K
    captions  K lists of text; the first of each is the plain name. No caption stands in two lists.
    style     int64 (M,) or None, whose hand drew it: an index into `styles`
    styles    names of the hands

    Raises ValueError when the shapes, dtypes or indices do not fit together.
    """

    name: str
    pictures: np.ndarray
    concept: np.ndarray
    captions: list
    style: np.ndarray | None = None
    styles: list = field(default_factory=list)

    def __post_init__(self):
        count = check_pictures(self.name, self.pictures)
        check_indices(self.name, "concept", self.concept, (count,), len(self.captions), "captions")
        if self.style is not None:
            check_indices(self.name, "style", self.style, (count,), len(self.styles), "styles")
        owner = {}
        for k, texts in enumerate(self.captions):
            if not texts:
                raise ValueError(f"{self.name}: concept {k} has no caption; give it at least one")
            for text in texts:
                if owner.setdefault(text, k) != k:
                    raise ValueError(
                        f"{self.name}: the caption {text!r} stands for concepts {owner[text]} "
                        f"and {k}; a caption must mean one thing"
                    )

    def __len__(self):
        return len(self.pictures)


@dataclass
class Evaluation:
    """A zero-shot exam: which name belongs to each picture?

    name        what to call the exam
    pictures    uint8 (M, S, S, 4), RGBA with straight alpha
    answer      int64 (M,), the right name: an index into `names`
    names       K different names
    candidates  int64 (M, c) or None, the names a picture may choose from; None means all of them
    templates   prompts with one {} for the name, to be averaged; the bare name is reported beside them

    Raises ValueError when the shapes, dtypes or indices do not fit together, when a name stands twice
    or when a picture's answer is not among its candidates.
    """

    name: str
    pictures: np.ndarray
    answer: np.ndarray
    names: list
    candidates: np.ndarray | None = None
    templates: list = field(default_factory=lambda: ["{}"])

    def __post_init__(self):
        count = check_pictures(self.name, self.pictures)
        check_indices(self.name, "answer", self.answer, (count,), len(self.names), "names")
        if len(set(self.names)) != len(self.names):
            twice = sorted(name for name in set(self.names) if self.names.count(name) > 1)
            raise ValueError(f"{self.name}: the name {twice[0]!r} stands twice among the candidates")
        if self.candidates is not None:
            check_indices(self.name, "candidates", self.candidates, (count, None), len(self.names), "names")
            if not (self.candidates == self.answer[:, None]).any(1).all():
                raise ValueError(f"{self.name}: a picture's right answer is not among its candidates")
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"{self.name}: the template {template!r} must hold {{}} exactly once")

    def __len__(self):
        return len(self.pictures)


def check_pictures(name, pictures):
    """The number of pictures M; ValueError unless they are uint8 (M, S, S, 4)."""
    if (
        pictures.dtype != np.uint8
        or pictures.ndim != 4
        or pictures.shape[3] != 4
        or pictures.shape[1] != pictures.shape[2]
    ):
        raise ValueError(f"{name}: pictures must be uint8 (M, S, S, 4), not {pictures.dtype} {pictures.shape}")
    return len(pictures)


def check_indices(name, what, indices, shape, bound, into):
    """ValueError unless `indices` is int64 of that shape (None: any length) with 0 <= index < bound."""
    if (
        indices.dtype != np.int64
        or indices.ndim != len(shape)
        or any(want not in (None, have) for want, have in zip(shape, indices.shape))
    ):
        wanted = ", ".join("c" if n is None else str(n) for n in shape)
        raise ValueError(f"{name}: {what} must be int64 ({wanted}), not {indices.dtype} {indices.shape}")
    if indices.size and not (0 <= indices.min() and indices.max() < bound):
        raise ValueError(
            f"{name}: {what} holds {indices.min()} to {indices.max()}, but there are {bound} {into}, numbered from 0"
        )
