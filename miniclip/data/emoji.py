"""Emoji: real pictures with real names, the same 1,600 things drawn by several artists.

The split is the lesson: train on some styles, then be tested on one that was never seen. Fluent and game-icons are
exams, and never trained on. To choose hyper-parameters without looking at Fluent, hold out another style: then that
style is the unseen artist, its family (earlier drawings by the same artist) is not trained on, and Fluent is not even
read. The pictures ship as one mosaic per style in the folder beside this file; `DATA_LICENSES` says who drew them.
"""

import functools
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from .dataset import Evaluation, PictureSet, resize_all
from .emoji_captions import DESCRIPTION_TEMPLATES, PROMPTS, TEMPLATES, captions, descriptions

FOLDER = Path(__file__).parent / "mosaics"
BUILDER = "python benchmarks/emoji/build_emoji.py"
NEVER_TRAINED = "fluent"


def emoji_data(styles=None, hold_out_style=None, size=None):
    """The emoji to train on and to be tested on, as (PictureSet, [Evaluation, ...]).

    styles          names of the training styles; None means all outside the held-out style's family that the
                    catalogue does not call optional
    hold_out_style  the style of the evaluations; None means Fluent. No call ever trains on Fluent or another style
                    that the catalogue calls an exam
    size            side of the pictures in pixels; None means as stored (64)

    "unseen artist" asks for every emoji that the held-out style and a training style draw, without flags and lone
    components; the candidates are all their names. "unseen combination: <style>", for each of the held-out style,
    Twemoji and Noto, asks for people in {man, woman} x 5 skin tones: two of a concept's ten combinations are held
    out of training in every style; the candidates are the ten. Raises ValueError for an unknown style or a damaged
    file.
    """
    catalogue = read_catalogue()
    held_out_style = hold_out_style or NEVER_TRAINED
    family = about(held_out_style)["family"]
    unseen = [name for name, style in catalogue["styles"].items() if "exam" in style or style["family"] == family]
    usual = [name for name, style in catalogue["styles"].items() if name not in unseen and "optional" not in style]
    train_styles = usual if styles is None else list(styles)
    if not train_styles:
        raise ValueError("styles is empty; name at least one training style")
    for style in train_styles:
        if style in unseen:
            why = "it is an exam" if "exam" in about(style) else "its artist is held out"
            raise ValueError(f"the style {style!r} cannot be trained on, for {why}; leave it out")

    held_out = [i for concept in catalogue["people"] for i in concept["held_out"]]
    people = [i for concept in catalogue["people"] for i in concept["emoji"]]
    trainable = np.setdiff1d(np.arange(len(catalogue["emoji"])), held_out)
    shown, pictures = zip(*[pictures_of(style, trainable, size) for style in train_styles])
    drawn, concept = np.unique(np.concatenate(shown), return_inverse=True)
    entries = [catalogue["emoji"][i] for i in drawn]
    words_of = {entry["name"]: entry["tags"] + entry["keywords"] for entry in catalogue["emoji"]}
    style = np.repeat(np.arange(len(train_styles), dtype=np.int64), [len(i) for i in shown])
    training = PictureSet(
        "emoji",
        np.concatenate(pictures),
        concept,
        [captions(entry) for entry in entries],
        style,
        train_styles,
        named=True,
        templates=TEMPLATES,
        descriptions=[descriptions(entry, words_of) for entry in entries],
        description_templates=DESCRIPTION_TEMPLATES,
        filler_words=catalogue["words"],
    )

    shown, pictures = pictures_of(held_out_style, np.setdiff1d(drawn, people), size)
    if not len(shown):
        wanted = f"no emoji of the style {held_out_style!r} is drawn by {', '.join(train_styles)}"
        raise ValueError(f"{wanted}; train on more styles")
    choices, answer = np.unique(shown, return_inverse=True)
    names = [catalogue["emoji"][i]["name"] for i in choices]
    evaluations = [Evaluation("unseen artist", pictures, answer, names, templates=PROMPTS)]
    for style in dict.fromkeys([held_out_style, "twemoji", "noto"]):
        if style == held_out_style or style in train_styles:
            evaluations += unseen_combination(style, size)
    return training, evaluations


def unseen_combination(style, size=None):
    """[Evaluation] of one style's pictures of the held-out combinations, ten candidates each; [] if it draws none."""
    catalogue = read_catalogue()
    held_out = {i for concept in catalogue["people"] for i in concept["held_out"]}
    choices = [i for concept in catalogue["people"] for i in concept["emoji"]]  # ten of one concept, ten of the next
    cell_of = {i: cell for cell, i in enumerate(about(style)["cells"])}
    answer = np.array([row for row, i in enumerate(choices) if i in held_out and i in cell_of], np.int64)
    if not len(answer):
        return []
    pictures = read_style(style, size)[[cell_of[choices[row]] for row in answer]]
    names = [catalogue["emoji"][i]["name"] for i in choices]
    candidates = answer[:, None] // 10 * 10 + np.arange(10)
    return [Evaluation(f"unseen combination: {style}", pictures, answer, names, candidates, PROMPTS)]


def emoji_names():
    """Every entry of the catalogue, to search and to print.

    Dicts with char, code, name, tags (emojibase's), keywords (emojilib's), group and subgroup. Behind the emoji stand
    the things that Openclipart alone draws, without a char and in the group "openclipart".
    """
    return read_catalogue()["emoji"]


def emoji_pictures(style, size=None):
    """All pictures of one style, as (uint8 (n, S, S, 4) RGBA, their n codes like '1f468-200d-1f692')."""
    return read_style(style, size), [emoji_names()[i]["code"] for i in about(style)["cells"]]


def pictures_of(style, wanted, size):
    """Which of the emoji `wanted` (indices) a style draws, in the order of its mosaic, and the pictures."""
    cells = np.array(about(style)["cells"])
    rows = np.isin(cells, wanted)
    return cells[rows], read_style(style, size)[rows]


def about(style):
    """What the catalogue says of a style, "optional" and "exam" where it is one. ValueError for no such style."""
    styles = read_catalogue()["styles"]
    if style not in styles:
        raise ValueError(f"no emoji style {style!r}; there are {', '.join(styles)}")
    return styles[style]


@functools.lru_cache(maxsize=1)
def read_catalogue():
    """emoji.json as a dict: size, columns, emoji, people, styles, words. Raises ValueError when it is damaged."""
    path = FOLDER / "emoji.json"
    try:
        catalogue = json.loads(path.read_text(encoding="utf-8"))
        count = len(catalogue["emoji"])
        used = [i for style in catalogue["styles"].values() for i in style["cells"]]
        used += [i for concept in catalogue["people"] for i in concept["emoji"] + concept["held_out"]]
        whole = catalogue["size"] > 0 and catalogue["columns"] > 0 and all(0 <= i < count for i in used)
        whole = whole and all(map(str.isalpha, catalogue["words"]))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; build it with {BUILDER}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged; build it again with {BUILDER}")
    return catalogue


@functools.lru_cache(maxsize=2)
def read_style(style, size=None):
    """Every picture of a style's mosaic, uint8 (n, S, S, 4), read-only. Raises ValueError when it is damaged."""
    if size is not None and size < 1:
        raise ValueError(f"emoji pictures of size {size} cannot be; give a side of at least 1 pixel, or None")
    side, columns = read_catalogue()["size"], read_catalogue()["columns"]
    path = FOLDER / about(style)["file"]
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != about(style)["sha256"]:
            raise ValueError("its bytes are not those that were built")
        sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
        cells = sheet.reshape(-1, side, columns, side, 4).swapaxes(1, 2).reshape(-1, side, side, 4)
    except (OSError, ValueError) as error:
        raise ValueError(f"the mosaic {path} cannot be read ({error}); build it again with {BUILDER}") from None
    pictures = resize_all(np.ascontiguousarray(cells[: len(about(style)["cells"])]), size or side)
    pictures.flags.writeable = False
    return pictures
