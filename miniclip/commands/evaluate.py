"""The command `python -m miniclip evaluate`: the zero-shot accuracy of a checkpoint."""

import json
from pathlib import Path

from ..checkpoints import load
from ..data import load_data
from ..evaluation import evaluate, nearest_pixel_baseline

CHECKPOINT = {"default": "emoji"}
EVALUATE = (
    ("checkpoint", {"nargs": "?", **CHECKPOINT}, "emoji (the one that ships), a file, a folder, or the name of a model "
     "that was downloaded, openai/clip-vit-base-patch32 (default: emoji)"),
    ("--data", {}, "as for train (default: what it was trained on)"),
    ("--hold-out", {"metavar": "STYLE"}, "emoji: the style to be tested on (default: fluent)"),
    ("--json", {"action": "store_true"}, "print JSON"),
)  # fmt: skip


def run_evaluate(options):
    """evaluate: accuracy of a checkpoint on the data's zero-shot evaluations."""
    clip = load(options.checkpoint, device=options.device)
    name = options.data or str(clip.about.get("data", "emoji"))
    if not options.data and name not in ("emoji", "shapes") and not Path(name).exists():
        raise ValueError(f"this model was trained on {name!r}, which is not here; say with --data where it is.")
    # The seed decides which pictures of a folder training did not see.
    config = clip.about.get("config", clip.about.get("recipe"))
    seed = config.get("seed") if isinstance(config, dict) else None
    data, evaluations = load_data(name, seed=seed if isinstance(seed, int) else 0, hold_out_style=options.hold_out)
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
