"""The command `python -m miniclip evaluate`: the zero-shot accuracy of a checkpoint."""

import json
import os
import shlex
import warnings
from pathlib import Path

from .asking import LOADING, WHICH, load_model
from .train import USUAL_SIZE

GENERATED = ("emoji", "shapes")
EVALUATE = (
    ("checkpoint", {"nargs": "?", "default": "emoji"}, WHICH),
    ("--data", {}, "as for train (default: what it was trained on)"),
    ("--hold-out", {"metavar": "STYLE"}, "emoji: the style to be tested on (default: fluent)"),
    ("--json", {"action": "store_true"}, "print JSON"),
    *LOADING,
)


def run_evaluate(options):
    """evaluate: accuracy of a checkpoint on the data's zero-shot evaluations."""
    from ..data import load_data
    from ..evaluation import evaluate, nearest_pixel_baseline

    clip = load_model(options.checkpoint, options)
    name = options.data or remembered(clip.about)
    side = clip.config["vision_cfg"]["image_size"]
    size = side if side > USUAL_SIZE else None  # as in training
    data, evaluations = load_data(name, size, seed=seed_of(clip.about), hold_out_style=options.hold_out)
    if options.image_size is None:  # pictures of another size have another fingerprint
        compare(clip.about, name, data, given=options.data is not None)
    if not evaluations:
        raise ValueError(f"{name} has too few pictures for some to be kept from training, so there is nothing to ask.")
    results = [evaluate(clip, evaluation) for evaluation in evaluations]
    if name == "emoji":
        results[0]["nearest_pixels_top1"] = nearest_pixel_baseline(data, evaluations[0])
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(f"{'evaluation':36} {'pictures':>8} {'names':>6} {'chance':>7}   {'bare name':>15}   {'prompt ensemble':>15}")
    print(f"{'':36} {'':8} {'':6} {'top-1':>7}   {'top-1':>7} {'top-5':>7}   {'top-1':>7} {'top-5':>7}")
    for row in results:
        print(
            f"{row['name']:36} {row['n']:8} {row['choices']:6} {row['chance']:7.2%}   {row['top1']:7.1%} "
            f"{row['top5']:7.1%}   {row['ensemble_top1']:7.1%} {row['ensemble_top5']:7.1%}"
        )
        if "nearest_pixels_top1" in row:
            print(f"{'  nearest training picture by pixels':61}{row['nearest_pixels_top1']:7.1%}")


def remembered(about):
    """The data that a model was trained on: a name or a path. Raises ValueError where they are not here."""
    name = str(about.get("data", "emoji"))
    if name in GENERATED:
        return name
    if not os.path.exists(name):
        raise ValueError(f"this model was trained on {name[:200]!r}, which is not here; say with --data where it is.")
    if not isinstance(about.get("fingerprint"), str):
        warnings.warn(
            f"of what it was trained on, this model remembers no more than {name!r}: taking {Path(name).resolve()}; "
            "if that is another, say with --data where they are."
        )
    return name


def compare(about, name, data, given):
    """Say so where these are not the data that a model was trained on, for then the exam may hold what it has seen.

    Raises ValueError for a folder that nobody named.
    """
    from ..training import fingerprint

    if about.get("fingerprint", "") in ("", fingerprint(data)):
        return
    if not given and name not in GENERATED:
        raise ValueError(
            f"{name} does not hold the pictures, with the captions, that this model was trained on, and it may have "
            f"seen some that it would be asked about: say --data {shlex.quote(name)} to evaluate it all the same."
        )
    trained = str(about.get("data", ""))[:200]
    other = f"{trained}, as it was then" if trained == name else trained
    warnings.warn(f"these are not the pictures it was trained on, and it may have seen some of them: {other}")


def seed_of(about):
    """The seed of a model's training, which decides which pictures of a folder it did not see; 0 where it says none."""
    config = about.get("config", about.get("recipe"))
    seed = config.get("seed") if isinstance(config, dict) else None
    return seed if isinstance(seed, int) and seed >= 0 else 0
