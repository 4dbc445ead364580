"""Coloured shapes, drawn by the program: a first data source that needs no files.

A scene is one shape, "a small red circle", or two, "a small red circle above a blue square", which may as well be
called "a blue square below a small red circle". Every colour is seen in training, and every shape, but the six pairs
of `HELD_OUT` never are, neither in a picture nor in a caption. To name them, a model must have understood that a
caption has parts.
"""

import numpy as np
from PIL import Image, ImageDraw

from .dataset import Evaluation, PictureSet

COLOURS = {
    "red": (220, 40, 40), "yellow": (240, 210, 40), "green": (40, 160, 70), "blue": (50, 90, 220),
    "purple": (150, 60, 180), "black": (30, 30, 30), "pink": (250, 150, 200), "brown": (130, 80, 40),
    "grey": (150, 150, 150),
}  # fmt: skip
EDGE = (60, 60, 60)
# The corners of each shape: angles from the top, in degrees, and distances from the centre, in radii.
CORNERS = {
    "circle": None,
    "square": (np.arange(45, 360, 90), 1.15),
    "triangle": (np.arange(0, 360, 120), 1.15),
    "star": (np.arange(0, 360, 36), np.tile([1.15, 0.45], 5)),
    "cross": (np.add.outer(np.arange(0, 360, 90), [-18, 18, 45]).ravel(), np.tile([1.1, 1.1, 0.48], 4)),
    "ring": None,
}
SIZES = {"small": (0.13, 0.17), "large": (0.22, 0.29)}  # radius, as a part of the picture
RELATIONS = {"above": "below", "left of": "right of"}
HELD_OUT = list(zip(COLOURS, CORNERS))  # red circle, yellow square, green triangle, ...
PAIRS = [(colour, shape) for colour in COLOURS for shape in CORNERS]
FINE = 4  # shapes are drawn so many times larger and then reduced, which makes their edges smooth


def shapes_data(size=32, pictures=6000, seed=0):
    """Scenes to train on, and two evaluations about colour-shape pairs that no training scene holds.

    Returns (PictureSet, [Evaluation, Evaluation]), the same for the same arguments. Half of the `pictures` training
    pictures, uint8 (pictures, size, size, 4), show one shape and half show two. "held-out pairs" shows one shape
    and asks which of all 108 sizes × colours × shapes it is; "held-out pairs in scenes" shows two, of which one or
    both are held out, beside nine captions that differ from the right one in a single respect. Places, sizes, turns
    and colours vary, so training needs no augmentation; mirroring, or turning by more than a few degrees, would make
    the captions wrong. Raises ValueError for a size below 8 or fewer than 2 pictures.
    """
    if size < 8:
        raise ValueError(f"size is {size}; shapes cannot be told apart below 8 pixels")
    if pictures < 2:
        raise ValueError(f"pictures is {pictures}; shapes need at least 2")
    rng, rng_one, rng_two = (np.random.default_rng([seed, part]) for part in range(3))
    seen = [pair for pair in PAIRS if pair not in HELD_OUT]
    singles = [(size_word, pair) for pair in seen for size_word in SIZES]
    families = [[scene] for scene in singles]
    families += [_exchanged(_two(rng, seen, seen), seen) for _ in range(max(1, pictures // 16))]
    scenes = {scene: number for number, family in enumerate(families) for scene in family}
    family, scenes = np.array(list(scenes.values())), list(scenes)
    concept = np.arange(pictures) % len(singles)
    half = pictures // 2
    concept[half:] = len(singles) + np.arange(pictures - half) % (len(scenes) - len(singles))
    drawn = _draw_all([scenes[k] for k in concept], size, rng)
    training = PictureSet("shapes", drawn, concept, [captions(scene) for scene in scenes], family=family)
    return training, [_ask_one(rng_one, size), _ask_two(rng_two, size, seen)]


def captions(scene):
    """What a scene may be called: a list of str. A scene is (size, pair) or (size, pair, relation, pair)."""
    size, (colour, shape), *rest = scene
    first = f"a {size} {colour} {shape}"
    if not rest:
        return [first]
    relation, pair = rest
    second = f"a {' '.join(pair)}"
    return [f"{first} {relation} {second}", f"{second} {RELATIONS[relation]} {first}"]


def draw_scene(scene, size, rng):
    """A picture of the scene, uint8 RGBA (size, size, 4) on nothing; places, radii, turns and colours come from rng.

    The second shape of a scene is small or large at random.
    """
    word, pair, *rest = scene
    words, pairs = ([word, rng.choice(list(SIZES))], [pair, rest[1]]) if rest else ([word], [pair])
    radii = np.array([rng.uniform(*SIZES[word]) for word in words]) * (0.82 if rest else 1)
    # Along the line of the relation the shapes stand one after the other, with the free room shared out at random.
    gaps = (1 - 2 * radii.sum()) * rng.dirichlet(np.ones(len(pairs) + 1))
    along = np.cumsum(gaps[:-1]) + 2 * np.cumsum(radii) - radii
    across = rng.uniform(0.38, 0.62, 2) if rest else rng.uniform(radii, 1 - radii)
    places = zip(across, along) if rest[:1] == ["above"] else zip(along, across)
    picture = Image.new("RGBA", (size * FINE, size * FINE))
    for (colour, shape), radius, (x, y) in zip(pairs, radii * size * FINE, places):
        ink = tuple(np.clip(COLOURS[colour] + rng.integers(-15, 16, 3), 0, 255).tolist())
        _draw_shape(ImageDraw.Draw(picture), shape, x * size * FINE, y * size * FINE, radius, ink, rng)
    return np.asarray(picture.reduce(FINE))


def _draw_all(scenes, size, rng):
    return np.stack([draw_scene(scene, size, rng) for scene in scenes])


def _draw_shape(draw, shape, x, y, radius, ink, rng):
    """One shape with a dark edge, which a pale colour needs to be seen on white."""
    if CORNERS[shape]:
        angles, distances = CORNERS[shape]
        angles = np.deg2rad(angles + rng.uniform(-12, 12))
        corners = np.stack([x + radius * distances * np.sin(angles), y - radius * distances * np.cos(angles)], 1)
        draw.polygon([tuple(corner) for corner in corners.tolist()], ink, EDGE, FINE)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), ink, EDGE, FINE)
        if shape == "ring":
            hole = radius / 2
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), (0, 0, 0, 0), EDGE, FINE)


def _two(rng, firsts, seconds):
    """A scene of two shapes that differ in colour and in shape."""
    while True:
        first, second = firsts[rng.integers(len(firsts))], seconds[rng.integers(len(seconds))]
        if first[0] != second[0] and first[1] != second[1]:
            return (str(rng.choice(list(SIZES))), first, str(rng.choice(list(RELATIONS))), second)


def _exchanged(scene, seen):
    """A scene of two shapes, and those that exchange its shapes, its colours or both: one set of words."""
    size, (colour, shape), relation, (colour_2, shape_2) = scene
    both = (size, (colour_2, shape_2), relation, (colour, shape))
    colours = (size, (colour_2, shape), relation, (colour, shape_2))
    shapes = (size, (colour, shape_2), relation, (colour_2, shape))
    return [other for other in (scene, both, colours, shapes) if other[1] in seen and other[3] in seen]


def _ask_one(rng, size, each=40):
    scenes = [(word, pair) for pair in PAIRS for word in SIZES]
    answer = np.repeat([k for k, (_, pair) in enumerate(scenes) if pair in HELD_OUT], each)
    pictures = _draw_all([scenes[k] for k in answer], size, rng)
    return Evaluation("held-out pairs", pictures, answer, [captions(scene)[0] for scene in scenes])


def _ask_two(rng, size, seen, count=400):
    scenes, index, candidates = [], {}, []
    for k in range(count):
        kinds = [(HELD_OUT, seen), (seen, HELD_OUT), (HELD_OUT, HELD_OUT)][k % 3]
        scenes.append(_two(rng, *kinds))
        names = [captions(scene)[0] for scene in (scenes[-1], *_nearly(scenes[-1], rng))]
        candidates.append([index.setdefault(name, len(index)) for name in names])
    pictures, candidates = _draw_all(scenes, size, rng), np.array(candidates)
    return Evaluation("held-out pairs in scenes", pictures, candidates[:, 0].copy(), list(index), candidates)


def _nearly(scene, rng):
    """Nine scenes that resemble this one: each changes one thing or exchanges two."""
    size, (colour, shape), relation, (colour_2, shape_2) = scene

    def other(words, *taken):
        return str(rng.choice([word for word in words if word not in taken]))

    other_size, other_relation = other(SIZES, size), other(RELATIONS, relation)
    return [
        (size, (colour_2, shape_2), relation, (colour, shape)),
        (size, (colour_2, shape), relation, (colour, shape_2)),
        (size, (colour, shape_2), relation, (colour_2, shape)),
        (other_size, (colour, shape), relation, (colour_2, shape_2)),
        (size, (colour, shape), other_relation, (colour_2, shape_2)),
        (size, (other(COLOURS, colour, colour_2), shape), relation, (colour_2, shape_2)),
        (size, (colour, other(CORNERS, shape, shape_2)), relation, (colour_2, shape_2)),
        (size, (colour, shape), relation, (other(COLOURS, colour, colour_2), shape_2)),
        (size, (colour, shape), relation, (colour_2, other(CORNERS, shape, shape_2))),
    ]
