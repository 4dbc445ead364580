"""The command `python -m miniclip search`: pictures by a description, or by a picture."""

import json
import sys
from pathlib import Path

from .asking import CHECKPOINT, LOADING, check_text, in_line, load_model, read_picture

SCORE = "cosine_similarity"
SEARCH = (
    ("query", {"nargs": "*"}, "a few words"),
    ("--image", {"metavar": "FILE"}, "search by a picture, or - for one on standard input; with words too, by the mean "
     "of both embeddings"),
    ("--data", {"default": "emoji"}, "emoji, or a folder of pictures, which may lie in folders below it. Their "
     "embeddings are kept beside them in a hidden file, .miniclip-….safetensors, and only what is new is embedded "
     "(default: emoji)"),
    ("--style", {}, "whose emoji to search (default: fluent, which it never saw)"),
    ("--count", {"type": int, "default": 10}, "how many to print (default: 10)"),
    CHECKPOINT,
    ("--json", {"action": "store_true"}, "print JSON"),
    *LOADING,
)  # fmt: skip


def run_search(options):
    """search: the best pictures first. Status 2 where one cannot be read."""
    from ..backend import to_array_on
    from ..evaluation import search

    words, emoji = " ".join(options.query), options.data == "emoji"
    if options.count < 1:
        raise ValueError(f"--count is {options.count}; it must be at least 1.")
    if not options.query and options.image is None:
        raise ValueError("there is nothing to search for: give a few words, or a picture with --image.")
    if options.style and not emoji:
        raise ValueError(f"--style {options.style} is one of the emoji's; {options.data} has none.")
    picture = None if options.image is None else read_picture(options.image)
    clip = load_model(options.checkpoint, options)
    if options.query:
        check_text(clip, words, "the query")
    rows, index, broken = of_emoji(clip, options.style or "fluent") if emoji else of_folder(clip, options.data)
    query, features = query_features(clip, words, picture), to_array_on(clip.device)(index.features)
    best, scores = search(clip, query, features, options.count)
    found = [rows[i] | {SCORE: round(score, 6)} for i, score in zip(best.tolist(), scores.tolist())]
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print("\t".join(found[0]).replace("_", " "))
        for row in found:
            cells = [f"{value:.3f}" if isinstance(value, float) else in_line(value) for value in row.values()]
            print("\t".join(cells))
    for why in broken.values():
        print(f"miniclip: {in_line(why)}", file=sys.stderr)
    if broken:
        print(f"miniclip: {len(broken)} of {len(broken) + len(rows)} pictures cannot be read.", file=sys.stderr)
    return 2 if broken else 0


def of_emoji(clip, style):
    """What to print of each emoji of a style, and their embeddings (N, E)."""
    from ..data import emoji_names
    from ..evaluation import index_emoji

    index = index_emoji(clip, style)
    known = {entry["code"]: entry for entry in emoji_names()}
    return [{"emoji": known[code]["char"], SCORE: 0.0, "name": known[code]["name"]} for code in index.names], index, {}


def of_folder(clip, folder):
    """The same of the pictures in a folder; and of those that cannot be read, {path: why}. ValueError where all are."""
    from ..evaluation import index_folder

    folder = Path(folder).expanduser()
    index, broken = index_folder(clip, folder)
    if not index.names:
        raise ValueError(
            f"of {len(broken)} pictures in {folder} none can be read; the first: {next(iter(broken.values()))}"
        )
    return [{"picture": str(folder / name), SCORE: 0.0} for name in index.names], index, broken


def query_features(clip, words, picture):
    """The unit embedding (1, E) of words ("" for none), of a picture (or None), or of both: the mean of the two."""
    from ..layers import l2_normalize

    parts = [clip.encode_text([words])] if words else []
    parts += [clip.encode_image([picture])] if picture else []
    return l2_normalize(sum(parts))[0]
