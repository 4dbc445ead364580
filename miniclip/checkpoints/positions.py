"""A model for pictures of another size: the grid of its position embeddings, interpolated."""

import math

import numpy as np

from ..init import is_resnet
from .untrusted import Damaged


def resize_positions(arrays, config, size):
    """Arrays {our name: array} and configuration of the same model for pictures of size × size.

    The grid of positions is interpolated as open_clip does it (bicubic, anti-aliased; open_clip does so for the ViT
    only); the class token's, the first, stays. Raises ValueError for a size that cannot be, and where the positions
    are no square.
    """
    vision = config["vision_cfg"]
    cell = 32 if is_resnet(config) else vision["patch_size"]
    if type(size) is not int or not cell <= size <= 1 << 12 or (is_resnet(config) and size % 32):
        raise Damaged(f"image_size is {str(size)[:40]!r}, not {'a multiple of' if cell == 32 else 'at least'} {cell}")
    name = "visual.attnpool.positional_embedding" if is_resnet(config) else "visual.positional_embedding"
    positions, config = arrays.get(name), config | {"vision_cfg": vision | {"image_size": size}}
    if positions is None or positions.ndim != 2 or positions.dtype.kind != "f":
        return arrays, config  # which is refused as another architecture
    old, new = math.isqrt(max(len(positions) - 1, 0)), size // cell
    if old == new:
        return arrays, config
    if old * old != len(positions) - 1 or not old:
        raise Damaged(f"its {len(positions) - 1} positions are no square, and cannot be brought to another size")
    weights, width = bicubic(old, new), positions.shape[1]
    grid = positions[1:].astype(np.float64).reshape(old, old * width)
    rows = (weights @ grid).reshape(new, old, width)
    grid = (weights @ rows).reshape(new * new, width)  # (new, old) @ each of the new rows (old, width)
    return arrays | {name: np.concatenate([positions[:1], grid.astype(positions.dtype)])}, config


def bicubic(old, new):
    """Weights (new, old) of bicubic interpolation along one axis, anti-aliased: each row sums to 1.

    Keys' kernel with a = −1/2, wider by old / new where the grid gets smaller, cut off at the edge: what Pillow does
    with pictures, and torch's interpolate(mode="bicubic", antialias=True).
    """
    scale = old / new
    wide = max(scale, 1.0)
    centers = (np.arange(new) + 0.5) * scale
    x = np.abs((np.arange(old) + 0.5 - centers[:, None]) / wide)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)
