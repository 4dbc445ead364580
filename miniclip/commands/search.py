"""The command `python -m miniclip search`: pictures by a description."""

from ..checkpoints import load
from ..data import emoji_names, emoji_pictures
from ..evaluation import search

SEARCH = (
    ("query", {}, "a few words"),
    ("--style", {"default": "fluent"}, "whose pictures to search (default: fluent, which it never saw)"),
    ("--count", {"type": int, "default": 10}, "how many to print (default: 10)"),
    ("--checkpoint", {"default": "emoji"}, "as for evaluate (default: emoji)"),
)


def run_search(options):
    """search: emoji by a description, the best first."""
    if options.count < 1:
        raise ValueError(f"--count is {options.count}; it must be at least 1.")
    clip = load(options.checkpoint, device=options.device)
    pictures, codes = emoji_pictures(options.style)
    known = {entry["code"]: entry for entry in emoji_names()}
    best, scores = search(clip, options.query, pictures, options.count)
    for i, score in zip(best.tolist(), scores.tolist()):
        entry = known[codes[i]]
        print(f"{entry['char']}\t{score:.3f}\t{entry['name']}")
