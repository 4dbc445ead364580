"""Emoji: real pictures with real names, the same 1,600 things drawn by several hands.

The pictures ship as one mosaic per style beside this file (`build_emoji.py` makes them, `DATA_LICENSES`
says who drew them). The split is the lesson: train on some artists, then face one that was never seen.

- unseen artist: every emoji that the held-out style and a training style draw, without flags and lone
  components; the candidates are all their names.
- unseen combination: people in {man, woman} x 5 skin tones. Two of a concept's ten combinations are
  held out of training in every style; the candidates are the concept's ten captions.

Fluent is never trained on. To choose hyper-parameters without looking at it, hold out another style:
then that style is the unseen artist, its family (earlier drawings of the same hand) is not trained on,
and Fluent is not even read.
"""

import functools
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from .dataset import Evaluation, PictureSet

FOLDER = Path(__file__).parent / "mosaics"
NEVER_TRAINED = "fluent"
TEMPLATES = ["{}", "an emoji of {}", "a drawing of {}"]  # the phrases of `captions`: no others were read
TAGS_IN_CAPTIONS = 6


def emoji_data(styles=None, hold_out_style=None, size=None):
    """The emoji to train on and the two exams, as (PictureSet, [Evaluation, ...]).

    styles          names of the training styles; None means all outside the held-out style's family
    hold_out_style  the style of the exams; None means Fluent, which no call ever trains on
    size            side of the pictures in pixels; None means as stored (64)

    The exams are "unseen artist" and, for each of the held-out style, Twemoji and Noto,
    "unseen combination: <style>". Raises ValueError for an unknown style or a damaged file.
    """
    catalogue = read_catalogue()
    judge = hold_out_style or NEVER_TRAINED
    for style in [judge, *(styles or [])]:
        check_style(style)
    family = {name: about["family"] for name, about in catalogue["styles"].items()}
    unseen = [name for name in family if name == NEVER_TRAINED or family[name] == family[judge]]
    hands = [name for name in family if name not in unseen] if styles is None else list(styles)
    for style in hands:
        if style in unseen:
            raise ValueError(f"the style {style!r} cannot be trained on: its hand is held out; leave it out of styles")
    if not hands:
        raise ValueError("styles is empty; name at least one training style")

    secret = {i for concept in catalogue["people"] for i in concept["held_out"]}
    chosen = {
        style: [(cell, i) for cell, i in enumerate(catalogue["styles"][style]["cells"]) if i not in secret]
        for style in hands
    }
    drawn = sorted({i for cells in chosen.values() for _, i in cells})
    concept_of = {i: k for k, i in enumerate(drawn)}
    training = PictureSet(
        name="emoji",
        pictures=np.concatenate([read_style(s, size)[[cell for cell, _ in chosen[s]]] for s in hands]),
        concept=np.array([concept_of[i] for s in hands for _, i in chosen[s]], np.int64),
        captions=[captions(catalogue["emoji"][i]) for i in drawn],
        style=np.repeat(np.arange(len(hands)), [len(chosen[s]) for s in hands]).astype(np.int64),
        styles=hands,
    )

    exams = [unseen_artist(catalogue, judge, hands, size)]
    for style in dict.fromkeys([judge, "twemoji", "noto"]):
        if style == judge or style in hands:
            exams += unseen_combination(catalogue, style, size)
    return training, exams


def unseen_artist(catalogue, judge, hands, size=None):
    """Evaluation: the pictures of `judge` of every emoji that also one of the styles `hands` draws."""
    people = {i for concept in catalogue["people"] for i in concept["emoji"]}
    seen = {i for style in hands for i in catalogue["styles"][style]["cells"]} - people
    asked = [(cell, i) for cell, i in enumerate(catalogue["styles"][judge]["cells"]) if i in seen]
    if not asked:
        raise ValueError(f"no emoji of the style {judge!r} is drawn by {', '.join(hands)}; train on more styles")
    row_of = {i: row for row, i in enumerate(dict.fromkeys(i for _, i in asked))}
    return Evaluation(
        name="unseen artist",
        pictures=read_style(judge, size)[[cell for cell, _ in asked]],
        answer=np.array([row_of[i] for _, i in asked], np.int64),
        names=[catalogue["emoji"][i]["name"] for i in row_of],
        templates=TEMPLATES,
    )


def unseen_combination(catalogue, style, size=None):
    """[Evaluation] of one style's pictures of the held-out combinations, ten candidates each; [] if it draws none."""
    cell_of = {i: cell for cell, i in enumerate(catalogue["styles"][style]["cells"])}
    asked = [(i, concept["emoji"]) for concept in catalogue["people"] for i in concept["held_out"] if i in cell_of]
    if not asked:
        return []
    row_of = {i: row for row, i in enumerate(i for concept in catalogue["people"] for i in concept["emoji"])}
    return [
        Evaluation(
            name=f"unseen combination: {style}",
            pictures=read_style(style, size)[[cell_of[i] for i, _ in asked]],
            answer=np.array([row_of[i] for i, _ in asked], np.int64),
            names=[catalogue["emoji"][i]["name"] for i in row_of],
            candidates=np.array([[row_of[i] for i in ten] for _, ten in asked], np.int64),
            templates=TEMPLATES,
        )
    ]


def captions(entry):
    """What a training step may call an emoji: its name alone, in a phrase, with its kind, with one tag."""
    name = entry["name"]
    kind = entry["subgroup"].replace("-", " ")
    tags = [tag for tag in entry["tags"] if tag.lower() not in name.lower().split()][:TAGS_IN_CAPTIONS]
    texts = [name, f"an emoji of {name}", f"a drawing of {name}", f"{name}, {kind}"]
    if name.endswith("skin tone"):
        texts.append(name.replace(": ", " with "))
    return texts + [f"{name}, {tag}" for tag in tags]


def emoji_names():
    """Every emoji of the catalogue, for searching and printing: a list of dicts with
    char, code, name, tags, group, subgroup. Index i is the `i` of `emoji_pictures`."""
    return read_catalogue()["emoji"]


def emoji_pictures(style, size=None):
    """All pictures of one style, as (uint8 (n, S, S, 4) RGBA, their n codes like '1f468-200d-1f692')."""
    check_style(style)
    catalogue = read_catalogue()
    return read_style(style, size), [catalogue["emoji"][i]["code"] for i in catalogue["styles"][style]["cells"]]


def emoji_styles():
    """Names of the styles that ship, Fluent (never trained on) among them."""
    return list(read_catalogue()["styles"])


def check_style(style):
    """ValueError unless a style of that name ships."""
    if style not in read_catalogue()["styles"]:
        raise ValueError(f"no emoji style {style!r}; there are {', '.join(read_catalogue()['styles'])}")


@functools.lru_cache(maxsize=1)
def read_catalogue():
    """emoji.json as a dict: size, columns, emoji, people, styles. Raises ValueError when it is damaged."""
    path = FOLDER / "emoji.json"
    try:
        catalogue = json.loads(path.read_text(encoding="utf-8"))
        count = len(catalogue["emoji"])
        used = [i for style in catalogue["styles"].values() for i in style["cells"]]
        used += [i for concept in catalogue["people"] for i in concept["emoji"] + concept["held_out"]]
        whole = catalogue["size"] > 0 and catalogue["columns"] > 0 and all(0 <= i < count for i in used)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; build it with python -m miniclip.data.build_emoji") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged; build it again with python -m miniclip.data.build_emoji")
    return catalogue


@functools.lru_cache(maxsize=2)
def read_style(style, size=None):
    """Every picture of a style's mosaic, uint8 (n, S, S, 4), read-only. Raises ValueError when it is damaged."""
    if size is not None and size < 1:
        raise ValueError(f"emoji pictures of size {size} cannot be; give a side of at least 1 pixel, or None")
    catalogue = read_catalogue()
    about, side, columns = catalogue["styles"][style], catalogue["size"], catalogue["columns"]
    path = FOLDER / about["file"]
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise ValueError("its bytes are not those that were built")
        sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
        cells = sheet.reshape(-1, side, columns, side, 4).swapaxes(1, 2).reshape(-1, side, side, 4)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the mosaic {path} cannot be read ({error}); build it again with python -m miniclip.data.build_emoji"
        ) from None
    pictures = np.ascontiguousarray(cells[: len(about["cells"])])
    if size not in (None, side):
        pictures = np.stack([shrink(cell, size) for cell in pictures])
    pictures.flags.writeable = False
    return pictures


def shrink(cell, size):
    """One picture at another size, uint8 (size, size, 4); alpha is premultiplied while it is resampled."""
    image = Image.fromarray(cell).convert("RGBa").resize((size, size), Image.BICUBIC)
    return np.asarray(image.convert("RGBA"))
