"""A data source by its name."""

from pathlib import Path

from .emoji import emoji_data
from .folder import folder_data
from .shapes import shapes_data
from .tars import names_tars, tar_data


def load_data(name_or_path, size=None, seed=0, hold_out_style=None):
    """A data source by name: "emoji", "shapes", the path of a folder (see `folder_data` for its layouts), or tars.

    Tars are named as in "shards/{00000..00122}.tar" or "shards/*.tar", or by a folder that holds nothing else (see
    `tar_data`); of them come a TarSet and no evaluation, and size and seed are the training's.

    size is the side of the pictures in pixels, None for what suits the source; the seed decides which shapes are
    drawn, or which pictures of a folder are kept from training; hold_out_style is the emoji style of the evaluations,
    None for Fluent. Returns (PictureSet, [Evaluation, ...]).
    Raises ValueError for a name that is none of these, and what the source raises.
    """
    if hold_out_style and name_or_path != "emoji":
        raise ValueError(f"hold_out_style {hold_out_style!r} is an emoji style; {str(name_or_path)!r} has none.")
    if name_or_path == "emoji":
        return emoji_data(hold_out_style=hold_out_style, size=size)
    if name_or_path == "shapes":
        return shapes_data(size or 32, seed=seed)
    if names_tars(name_or_path):
        return tar_data(name_or_path), []
    if not Path(name_or_path).exists():
        choices = "emoji, shapes, or the path of a folder with captions.csv, or of classes or tars"
        raise ValueError(f"there is no data source {str(name_or_path)!r}: choose {choices}")
    return folder_data(name_or_path, size or 64, seed)
