"""What every data source returns: pictures with captions to train on, and questions to be tested on.

A `PictureSet` says which thing (`concept`) each picture shows and what that thing may be called, so that a batch can
be drawn in which no two captions mean the same. An `Evaluation` is a multiple-choice test: pictures, the names to
choose from, and the right answers.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image


@dataclass
class PictureSet:
    """Pictures to train on. Raises ValueError when the shapes, dtypes or indices do not fit together."""

    name: str
    pictures: np.ndarray  # uint8 (M, S, S, 4), RGBA with straight (not premultiplied) alpha
    concept: np.ndarray  # int64 (M,): which thing a picture shows, 0 <= concept < K
    captions: list  # K lists of text, each of which tells the thing from all others
    style: np.ndarray | None = None  # int64 (M,): who drew it, an index into `styles`
    styles: list = field(default_factory=list)  # their names
    family: np.ndarray | None = None  # int64 (K,): things of one number are easily confused, and learned side by side
    named: bool = False  # whether the first of each list of captions is the plain name
    templates: list = field(default_factory=lambda: ["{}"])  # phrases with one {}, in which a caption may stand
    descriptions: list = field(default_factory=list)  # K lists of text that may be true of other things too, or none
    description_templates: list = field(default_factory=lambda: ["{}"])
    filler_words: list = field(default_factory=list)  # words that are in no name, for random phrases

    def __post_init__(self):
        count = check_pictures(self.name, self.pictures)
        check_indices(f"{self.name}: concept", self.concept, count, "captions", self.captions)
        if self.style is not None:
            check_indices(f"{self.name}: style", self.style, count, "styles", self.styles)
        owner = {}
        for k, texts in enumerate(self.captions):
            if not texts:
                raise ValueError(f"{self.name}: concept {k} has no caption; give it at least one")
            for text in texts:
                if owner.setdefault(text, k) != k:
                    both = f"the caption {text!r} stands for concepts {owner[text]} and {k}"
                    raise ValueError(f"{self.name}: {both}; put it into their descriptions")
        if self.descriptions and len(self.descriptions) != len(self.captions):
            lists = f"{len(self.descriptions)} lists of descriptions and {len(self.captions)} of captions"
            raise ValueError(f"{self.name}: {lists}; there must be as many, or none")
        templates = [*self.templates, *self.description_templates]
        check_templates(self.name, templates)
        for template in templates:  # so that the tokens of a caption are the same in each
            if "{}" not in template.split():
                raise ValueError(f"{self.name}: in the template {template!r}, {{}} must stand between spaces")

    def __len__(self):
        return len(self.pictures)


@dataclass
class Evaluation:
    """A zero-shot test: which name belongs to each picture?

    Raises ValueError when the shapes, dtypes or indices do not fit together, when a name stands twice,
    when there is only one to choose from, or when a picture's answer is not among its candidates.
    """

    name: str
    pictures: np.ndarray  # uint8 (M, S, S, 4), RGBA with straight alpha
    answer: np.ndarray  # int64 (M,): the right name, an index into `names`
    names: list  # K different names
    candidates: np.ndarray | None = None  # int64 (M, c): the names a picture may choose from; None means all of them
    templates: list = field(default_factory=lambda: ["{}"])  # prompts with one {} for the name, to be averaged

    def __post_init__(self):
        count = check_pictures(self.name, self.pictures)
        check_indices(f"{self.name}: answer", self.answer, count, "names", self.names)
        if len(set(self.names)) != len(self.names):
            twice = min(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"{self.name}: the name {twice!r} stands twice among the candidates")
        if self.candidates is not None:
            check_indices(f"{self.name}: candidates", self.candidates, count, "names", self.names, ndim=2)
            if not (self.candidates == self.answer[:, None]).any(1).all():
                raise ValueError(f"{self.name}: a picture's right answer is not among its candidates")
        choices = len(self.names) if self.candidates is None else self.candidates.shape[1]
        if choices < 2 and count:
            raise ValueError(
                f"{self.name}: there is {choices} name to choose from, which is no test; give at least two"
            )
        check_templates(self.name, self.templates)

    def __len__(self):
        return len(self.pictures)


def check_pictures(name, pictures):
    """The number of pictures M; ValueError unless they are uint8 (M, S, S, 4)."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[2:] != (pictures.shape[1], 4):
        raise ValueError(f"{name}: pictures must be uint8 (M, S, S, 4), not {pictures.dtype} {pictures.shape}")
    return len(pictures)


def check_templates(name, templates):
    """ValueError unless each template holds {} exactly once."""
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"{name}: the template {template!r} must hold {{}} exactly once")


def check_indices(what, indices, count, into, table, ndim=1):
    """ValueError unless `indices` into a table are int64, `count` of them or, for ndim 2, rows of them."""
    if indices.dtype != np.int64 or indices.ndim != ndim or len(indices) != count:
        wanted = f"({count}, c)" if ndim == 2 else f"({count},)"
        raise ValueError(f"{what} must be int64 {wanted}, not {indices.dtype} {indices.shape}")
    if indices.size and not (0 <= indices.min() and indices.max() < len(table)):
        found = f"{indices.min()} to {indices.max()}"
        raise ValueError(f"{what} holds {found}, but there are {len(table)} {into}, numbered from 0")


def resize_all(pictures, size):
    """Anti-aliased: uint8 RGBA (N, S, S, 4) -> (N, size, size, 4). Colour does not leak out of transparent pixels."""
    check_pictures("resize_all", pictures)
    if pictures.shape[1] == size:
        return pictures
    small = np.empty((len(pictures), size, size, 4), np.uint8)
    for row, picture in zip(small, pictures):
        row[:] = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
    return small


def premultiplied(pictures):
    """uint8 RGBA -> uint8 with the colours multiplied by alpha; Pillow does the whole batch as one tall picture."""
    n, height, width, _ = pictures.shape
    if not n:
        return pictures
    tall = Image.fromarray(pictures.reshape(n * height, width, 4))
    return np.asarray(tall.convert("RGBa")).reshape(pictures.shape)
