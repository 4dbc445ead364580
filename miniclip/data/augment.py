"""Augmentation: a small picture redrawn at random, so that the model learns the thing and not the artist.

Nearly all of it is three random mixtures, drawn anew for every picture:

    where to look    (x, y) of the source  = W · f(u, v)     W (2, K)   turn, scale, shear, shift, bend
    what colour      (r, g, b, 1)·alpha    = M · (R, G, B, 1)·alpha     M (4, 4)   hue, saturation, contrast, grey
    how much light   shade(u, v)           = 1 + l · f(u, v)            l (K,)     as if lit from one side

where f holds K smooth functions of the place in the new picture: straight lines and slow waves. Colours are
premultiplied by alpha, for then a change of colour, the shading and laying the picture on a background are all
linear. Every random number comes from the generator given, before any picture is touched.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np

from .dataset import check_pictures, premultiplied, resize_all

BLOCK = 64  # pictures worked on at once: of fewer, threads wait for Python; of more, arrays leave the cache


@dataclass(frozen=True)
class Augmentation:
    """How far each part goes. 0 switches a part off; `strength` in `augment` multiplies them all.

    Lengths are fractions of the picture, colours run over 0..1, a share is the part of the pictures it happens to.
    """

    rotate: float = 20.0  # degrees, either way
    scale: float = 0.3  # size between e^-scale and e^(scale/2) times the original: 0.74 to 1.16
    aspect: float = 0.15  # width against height, natural logarithm
    shear: float = 0.12
    shift: float = 0.10  # either way
    bend: float = 0.03  # slow waves: another artist's proportions
    flip: float = 0.0  # share mirrored; off, because left and right arrows are different emoji
    hue: float = 20.0  # degrees, either way
    saturation: float = 0.5
    contrast: float = 0.3
    brightness: float = 0.12
    tint: float = 0.08  # deviation of every entry of the colour matrix
    curve: float = 0.35  # x + c x (1 - x) for each channel: gamma without a power
    grey: float = 0.05  # share
    shade: float = 0.20  # slow waves of light
    relief: float = 0.30  # share lit from one side as if embossed: rendered in three dimensions
    lines: float = 0.08  # share with drawn outlines, half of them with nothing else
    soften: float = 0.40  # share blurred or sharpened
    background: float = 0.25  # share on a colour instead of white
    cutout: float = 0.20  # share with a rectangle missing

    def times(self, strength):
        """The same with every part multiplied by `strength`, a number of 0 or more; ValueError for any other."""
        if not (np.isfinite(strength) and strength >= 0):
            raise ValueError(f"augmentation strength must be a number of 0 or more, not {strength}")
        return replace(self, **{field.name: getattr(self, field.name) * strength for field in fields(self)})


def augment(pictures, rng, size, strength=1.0, parts=Augmentation()):
    """Random views of pictures: uint8 RGBA (N, S, S, 4) -> float32 (N, 3, size, size) in [0, 1].

    rng is a numpy Generator: the same state gives the same bits, whichever thread calls. strength multiplies all
    `parts`; at 0 the result is that of `plain` up to its finer resizing. Pictures far larger than size are shrunk
    first, at every call: `resize_all` them once instead. Raises ValueError for pictures of another shape or dtype.
    """
    check_pictures("augmentation", pictures)
    if pictures.shape[1] > 1.5 * size:
        pictures = resize_all(pictures, size)
    draws = _draw(rng, len(pictures), parts.times(strength))
    views = np.empty((len(pictures), 3, size, size), np.float32)
    for start in range(0, len(pictures), BLOCK):
        rows = slice(start, start + BLOCK)
        _redraw(pictures[rows], {name: values[rows] for name, values in draws.items()}, views[rows])
    return views


def plain(pictures, size):
    """Pictures on white, nothing random: uint8 RGBA (N, S, S, 4) -> float32 (N, 3, size, size) in [0, 1]."""
    pixels = premultiplied(resize_all(pictures, size)).astype(np.float32) / 255
    return np.ascontiguousarray((pixels[..., :3] + (1 - pixels[..., 3:])).transpose(0, 3, 1, 2))


def mix(pictures_a, pictures_b, rng, share=0.5):
    """One new drawing out of two of the same thing: uint8 RGBA (N, S, S, 4) twice -> the same shape.

    Of the pictures, `share` are mixed, half of them by fading both into each other and half by joining them along
    a random line; the rest stay as in pictures_a. Raises ValueError for pictures of another shape or dtype.
    """
    check_pictures("mix", pictures_a)
    check_pictures("mix", pictures_b)
    if pictures_a.shape != pictures_b.shape:
        raise ValueError(f"pictures to mix must have one shape, not {pictures_a.shape} and {pictures_b.shape}")
    n, side = pictures_a.shape[:2]
    angle, offset, faded = rng.uniform(0, 2 * np.pi, n), rng.uniform(-0.3, 0.3, n), rng.uniform(0.3, 0.7, n)
    line = np.stack([offset, np.cos(angle), np.sin(angle)], 1).astype(np.float32) @ _smooth(side)[:3]
    part_a = np.where(rng.random(n)[:, None] < 0.5, faded[:, None], (line * side / 2 + 0.5).clip(0, 1))
    rows = np.flatnonzero(rng.random(n) < share)
    a, b = (premultiplied(pictures[rows]).astype(np.float32) for pictures in (pictures_a, pictures_b))
    both = b + (a - b) * part_a[rows].astype(np.float32).reshape(-1, side, side, 1)
    both[..., :3] *= 255 / np.maximum(both[..., 3:], 1)
    mixed = pictures_a.copy()
    mixed[rows] = (both + 0.5).clip(0, 255)
    return mixed


@lru_cache(maxsize=8)
def _smooth(size):
    """f: the K = 8 smooth functions, float32 (K, size·size); u and v run from -1 to 1 over the picture."""
    v, u = (np.mgrid[:size, :size].reshape(2, -1) * 2 + 1) / size - 1
    waves = [wave(np.pi * axis) for axis in (u, v) for wave in (np.sin, np.cos)]
    return np.stack([np.ones_like(u), u, v, u * v, *waves]).astype(np.float32)


def _draw(rng, n, p):
    """Everything random about n pictures, as float32 arrays whose first axis is n."""
    either_way = lambda *shape: rng.uniform(-1, 1, (n, *shape))
    happens = lambda share: rng.random(n) < share

    # W: the place in the source, in units where the source runs from -1 to 1, as turn · shear · stretch / scale.
    turn = np.deg2rad(p.rotate) * either_way()
    scale = np.exp(p.scale * (0.75 * either_way() - 0.25))
    stretch = np.exp(p.aspect / 2 * either_way())
    stretch = np.stack([stretch, 1 / stretch], 1) / scale[:, None]
    stretch[happens(p.flip), 0] *= -1
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).transpose(2, 0, 1)
    sheared = np.eye(2) + p.shear * either_way(2, 2) * (1 - np.eye(2))
    shift = 2 * p.shift * either_way(2, 1)
    where = np.concatenate([shift, turned @ sheared * stretch[:, None], p.bend * either_way(2, 5)], 2)

    # M: hue turns the colour about the grey axis, saturation draws it away from its own grey.
    hue = np.deg2rad(p.hue) * either_way()[:, None, None]
    grey_axis = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    hue = grey_axis + np.cos(hue) * (np.eye(3) - grey_axis) + np.sin(hue) * across
    saturation = np.where(happens(p.grey), 0, 1 + p.saturation * either_way())[:, None, None]
    luminance = np.ones((3, 1)) * [0.30, 0.59, 0.11]
    contrast = np.exp(p.contrast * either_way())[:, None, None]
    colour = np.zeros((n, 4, 4))
    colour[:, :3, :3] = contrast * (luminance + saturation * (hue - luminance))
    colour[:, :3, :3] += p.tint * (saturation > 0) * either_way(3, 3)
    colour[:, :3, 3] = (1 - contrast[:, 0]) / 2 + p.brightness * either_way(1)
    colour[:, 3, 3] = 1

    light = rng.uniform(0, 2 * np.pi, n)
    relief = np.where(happens(p.relief), rng.uniform(0.3, 1.2, n), 0)
    draws = {
        "where": where,
        "colour": colour / 65280,  # pictures come out of the warp as 255 · 256
        "curve": p.curve * either_way(3, 1),
        "shade": p.shade * either_way(8) * ([0] + 7 * [1]) + ([1] + 7 * [0]),
        "relief": np.stack([relief * np.cos(light), relief * np.sin(light), rng.uniform(0.02, 0.06, n)], 1),
        "lines": np.stack([np.where(happens(p.lines), rng.uniform(0.6, 2.5, n), 0), happens(0.5)], 1),
        "soften": np.where(happens(p.soften), rng.uniform(-1, 1, n), 0),
        "background": np.where(happens(p.background)[:, None, None], rng.random((n, 3, 1)), 1),
        "hole": happens(p.cutout)[:, None] * rng.uniform([0, 0, 0.1, 0.1], [0.8, 0.8, 0.4, 0.4], (n, 4)),
    }
    return {name: values.astype(np.float32) for name, values in draws.items()}


def _redraw(pictures, draws, views):
    """Carry out the draws for one block of pictures, into views (N, 3, size, size)."""
    n, _, size, _ = views.shape
    functions = _smooth(size)
    pixels = draws["colour"] @ _warp(pictures, draws["where"], functions).transpose(0, 2, 1)  # (N, 4, size²)
    colours, alpha = pixels[:, :3], pixels[:, 3:]

    bend = colours * -draws["curve"]
    bend += 1 + draws["curve"]
    colours *= bend
    shade = draws["shade"] @ functions
    embossed = np.flatnonzero(draws["relief"][:, 0])
    shade[embossed] += _relief(alpha[embossed].reshape(-1, size, size), draws["relief"][embossed])
    colours *= shade[:, None]
    for i in np.flatnonzero(draws["hole"][:, 2]):
        left, top, width, height = (draws["hole"][i] * size).astype(int)
        pixels[i].reshape(4, size, size)[:, top : top + height, left : left + width] = 0
    colours += draws["background"] * (1 - alpha)
    np.clip(colours, 0, 1, out=views.reshape(n, 3, -1))

    outlined = np.flatnonzero(draws["lines"][:, 0])
    views[outlined] = _outline(views[outlined], *draws["lines"][outlined].T)
    softened = np.flatnonzero(draws["soften"])
    views[softened] = _soften(views[softened], draws["soften"][softened])


def _warp(pictures, where, functions):
    """Bilinear look-up: premultiplied float32 (N, P, 4) in 0..65280, transparent outside the pictures."""
    n, side = pictures.shape[:2]
    wide = side + 3  # transparent pixels all round, to which everything outside is clipped
    padded = np.zeros((n, wide, 4 * wide), np.uint16)
    padded[:, 1:-2, 4:-8] = premultiplied(pictures).reshape(n, side, 4 * side)
    # A pixel's four channels of 16 bits make one 64-bit word: looked up and weighed at one stroke.
    words = padded.reshape(-1).view(np.int64)

    place = (where * np.float32(8 * side)) @ functions  # (N, 2, P) in sixteenths of a pixel from the centre
    place += 8 * side + 8.5  # the centre, half a pixel on, and half a sixteenth to round
    np.clip(place, 0, 16 * (side + 1), out=place)
    x, y = place.astype(np.int32).swapaxes(0, 1)
    first = np.arange(n, dtype=np.int32)[:, None] * (wide * wide)
    corner = (first + (y >> 4) * wide + (x >> 4)).astype(np.int64)
    right, down = (x & 15).astype(np.int64), (y & 15).astype(np.int64)
    upper = _between(words.take(corner), words[1:].take(corner), right)
    lower = _between(words[wide:].take(corner), words[wide + 1 :].take(corner), right)
    return _between(upper, lower, down).view(np.uint16).reshape(n, -1, 4).astype(np.float32)


def _between(a, b, sixteenths):
    """16 a + (b - a) · sixteenths, in place. Lanes borrow from each other on the way, and give it all back."""
    b -= a
    b *= sixteenths
    a <<= 4
    a += b
    return a


def _gaussian(size, sigma):
    """Blurring along one axis as a matrix: sigma (N,) as a part of the size -> (N, size, size), rows sum to 1."""
    steps = np.arange(size, dtype=np.float32)
    distance = (steps[:, None] - steps) / (size * sigma[:, None, None])
    weights = np.exp(-0.5 * distance * distance)
    return weights / weights.sum(2, keepdims=True)


def _relief(alpha, relief):
    """Light (N, P) on the slopes of the blurred silhouette, from the direction (relief[:, 0], relief[:, 1])."""
    size = alpha.shape[1]
    blur = _gaussian(size, relief[:, 2])
    slope = (np.roll(blur, -1, 1) - np.roll(blur, 1, 1)) * size / 16
    slope[:, [0, -1]] = 0
    across, along = blur @ alpha @ slope.transpose(0, 2, 1), slope @ alpha @ blur.transpose(0, 2, 1)
    return (relief[:, 0, None, None] * across + relief[:, 1, None, None] * along).reshape(-1, size * size)


def _soften(views, amount):
    """Blur for amounts above 0 and sharpen below: views + amount · (blurred - views), for (N, 3, size, size)."""
    blur = _gaussian(views.shape[3], 0.012 + 0.012 * np.abs(amount))[:, None]
    return (views + amount[:, None, None, None] * (blur @ views @ blur.transpose(0, 1, 3, 2) - views)).clip(0, 1)


def _outline(views, strength, filled):
    """Darken the edges; where filled is 0 keep the edges alone, on white. Views (N, 3, size, size)."""
    grey = views.mean(1)
    blur = _gaussian(views.shape[3], np.full(len(views), 0.02, np.float32))
    edges = np.maximum(blur @ grey @ blur.transpose(0, 2, 1) - grey, 0)  # the darker side of every edge
    edges *= (strength / (edges.max((1, 2)) + 0.05))[:, None, None]  # pale pictures have edges too
    return (1 - filled[:, None, None, None] * (1 - views)) * (1 - edges[:, None].clip(0, 1))
