"""The command line: python -m miniclip train | evaluate | search | classify | gradcheck."""

import argparse
import json
import math
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

from .backend import out_of_memory
from .data import load_data
from .gpu import PRECISIONS
from .model import MODELS
from .training import PRESETS, TrainConfig, TrainingDiverged, preset, train
from .training.clock import DATA, Clock
from .tree import flatten


def main(arguments=None):
    """Run one command. Exit status 0, 1 where a gradient is wrong, or 2 with one sentence for bad input."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError, TrainingDiverged, MemoryError) as error:
        said = out_of_memory(error) if isinstance(error, MemoryError) else error
        print(f"miniclip: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("miniclip: interrupted; a training run goes on with --resume.", file=sys.stderr)
        return 130


def run_train(options):
    """train: data -> a run's folder with the model, the log and the last checkpoint."""
    started = time.perf_counter()
    if os.environ.get("OPENBLAS_CORETYPE"):
        print(
            f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} is set: if the processor is a newer one, matrix "
            "products run at half their speed; unset it."
        )
    name = options.preset or ("shapes" if options.data == "shapes" else "default")
    changes = {field.name: getattr(options, field.name, None) for field in fields(TrainConfig)}
    recipe = preset(name, **changes)
    if options.device == "cpu" and recipe.precision != "float32":
        raise ValueError(
            f"precision {recipe.precision!r} gains nothing on the processor, which computes slowly in "
            "anything but float32; leave it out, or use --device gpu."
        )
    clock = Clock() if options.profile else None
    with clock.phase(DATA) if clock else nullcontext():
        data, evaluations = load_data(options.data, seed=recipe.seed, hold_out_style=options.hold_out)
    captions = len(set(data.concept.tolist()))
    if recipe.batch > captions > 1 and options.batch is None:
        print(f"The preset's batch of {recipe.batch} is more than the {captions} different captions: using {captions}.")
        recipe = replace(recipe, batch=captions)
    out = options.out or f"runs/{Path(options.data).name}-{name}"
    print(
        f"Training {recipe.model} on {len(data)} pictures of {captions} things ({data.name}"
        f"{': ' + ', '.join(data.styles) if data.styles else ''}), {recipe.steps} steps of {recipe.batch}, "
        f"into {out}"
    )
    clip, _ = train(data, recipe, evaluations, out, options.threads, options.device, options.resume, clock=clock)
    count = sum(leaf.size for leaf in flatten(clip.params).values())
    print(
        f"{count / 1e6:.2f} M parameters, 1/τ = {math.exp(clip.params['logit_scale']):.1f}, "
        f"{time.perf_counter() - started:.0f} s. Saved {out}/model.safetensors: try\n"
        f"  python -m miniclip evaluate {out}"
    )
    if clock:
        print(f"\n{clock}")


def run_evaluate(options):
    """evaluate: accuracy of a checkpoint on the data's zero-shot evaluations."""
    from .checkpoints import load
    from .evaluation import evaluate

    clip = load(options.checkpoint, device=options.device)
    name = options.data or clip.about.get("data", "emoji")
    if not options.data and name not in ("emoji", "shapes") and not Path(name).exists():
        raise ValueError(f"this model was trained on {name!r}, which is not here; say with --data where it is.")
    # The seed decides which pictures of a folder training did not see.
    seed = clip.about.get("recipe", {}).get("seed", 0)
    data, evaluations = load_data(name, seed=seed, hold_out_style=options.hold_out)
    if not evaluations:
        raise ValueError(f"{name} has too few pictures for some to be kept from training, so there is nothing to ask.")
    results = [evaluate(clip, evaluation) for evaluation in evaluations]
    if name == "emoji":
        from .evaluation import nearest_pixel_baseline

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
            what = "  nearest training picture by pixels"
            print(f"{what:36} {'':8} {'':6} {'':7}   {row['nearest_pixels_top1']:7.1%}")


def run_search(options):
    """search: emoji by a description, the best first."""
    import numpy as np

    from .checkpoints import load
    from .data import emoji_names, emoji_pictures
    from .evaluation import search

    if options.count < 1:
        raise ValueError(f"--count is {options.count}; it must be at least 1.")
    clip = load(options.checkpoint, device=options.device)
    pictures, codes = emoji_pictures(options.style)
    known = {entry["code"]: entry for entry in emoji_names()}
    best, scores = search(clip, options.query, pictures, options.count)
    for i, score in zip(np.atleast_1d(best), np.atleast_1d(scores)):
        entry = known[codes[int(i)]]
        print(f"{entry['char']}\t{float(score):.3f}\t{entry['name']}")


def run_classify(options):
    """classify: how likely each label is for each picture."""
    from PIL import Image, ImageOps

    from .checkpoints import load

    labels = [label.strip() for label in options.labels.split(",") if label.strip()]
    if len(labels) < 2:
        raise ValueError(f"--labels names {len(labels)} label; give at least two, separated by commas.")
    clip = load(options.checkpoint, device=options.device)
    for path in options.pictures:
        try:
            with Image.open(path) as picture:
                picture = ImageOps.exif_transpose(picture)
        except Exception as error:  # decoders raise anything
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{path} is no picture that can be read: {reason}") from None
        chances = clip.classify([picture], labels, options.template)[0]
        print(path)
        for i in sorted(range(len(labels)), key=lambda i: -chances[i])[: options.count]:
            print(f"  {float(chances[i]):7.2%}  {labels[i]}")


def run_gradcheck(options):
    """gradcheck: every backward pass of the house against its forward pass. Exit status 1 if one is wrong."""
    from threadpoolctl import threadpool_limits

    from .gradcheck import check_layer, find_cases

    started = time.perf_counter()
    if options.seed < 0:
        raise ValueError(f"--seed is {options.seed}; it must be at least 0.")
    names = find_cases(options.layer or ["*"])
    methods = options.method or ["complex", "central", "adjoint"]
    if options.plot:
        plot_v_curve(names, options.seed, options.plot)
    if not options.json:
        print(
            f"Backward passes in {options.dtype} at random parameters with random cotangents (seed {options.seed}): "
            f"the worst relative error by each method.\n\n{'':30} {'arrays':>6} {'numbers':>8}"
            + "".join(f" {method:>10}" for method in methods)
        )
    reports = []
    for name in names:
        with threadpool_limits(limits=1):  # the matrices are tiny: threads would only wait for each other
            found = [check_layer(name, options.seed, method=method, dtype=options.dtype) for method in methods]
        reports += found
        if not options.json:
            rows = found[0].rows
            print(
                f"{name:30} {len(rows):6} {sum(math.prod(row.shape) for row in rows):8}"
                + "".join(f" {report.max_error:10.1e}" for report in found)
                + ("   ok" if all(report.ok for report in found) else "   WRONG"),
                flush=True,
            )
    wrong = [report for report in reports if not report.ok]
    if options.json:
        print(
            json.dumps(
                {
                    "dtype": options.dtype,
                    "seed": options.seed,
                    "ok": not wrong,
                    "reports": [report.to_json() for report in reports],
                },
                indent=2,
            )
        )
        return int(bool(wrong))
    for report in reports if options.layer else wrong:
        print(f"\n{report}")
    worst = (
        max((report for report in reports if report.method == method), key=lambda report: report.max_error)
        for method in methods
    )
    print(
        "\nworst error: "
        + ", ".join(
            f"{report.method} {report.max_error:.1e} in {report.function} (at most {report.tolerance:.0e})"
            for report in worst
        )
    )
    print(
        f"{len(wrong)} of {len(reports)} checks are wrong."
        if wrong
        else f"All {len(reports)} checks are right, in {time.perf_counter() - started:.0f} s."
    )
    return int(bool(wrong))


def plot_v_curve(names, seed, path):
    """Draw the error of one layer's derivatives against their step into a picture file."""
    from .gradcheck import draw_case, v_curve
    from .plots import v_curve as draw

    if len(names) != 1:
        raise ValueError("--plot draws one layer: say with --layer which.")
    f, args, options = draw_case(names[0], seed)
    figure = draw(v_curve(f, *args, exclude=options.get("exclude", ()), seed=seed), f"Derivatives of {names[0]}")
    try:
        figure.savefig(path)
    except ValueError as error:  # a file type that matplotlib cannot write
        raise ValueError(f"the picture cannot be written to {path}: {error}") from None


def parser():
    """The argparse parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m miniclip", description="CLIP by hand in NumPy and CuPy.")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name, run, help, example):
        sub = commands.add_parser(
            name,
            help=help,
            description=help,
            epilog=f"example: python -m miniclip {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        sub.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where to compute (default: cpu)")
        return sub

    t = command(
        "train",
        run_train,
        "Train CLIP and evaluate it zero-shot.",
        "train --data photos/ --out runs/photos --steps 400",
    )
    t.add_argument(
        "--data",
        default="emoji",
        help="emoji, shapes, or a folder with captions.csv (columns image, "
        "caption) or one subfolder a class (default: emoji)",
    )
    t.add_argument("--preset", choices=PRESETS, help="a whole recipe (default: default, or shapes for shapes)")
    t.add_argument("--model", choices=MODELS, help="the architecture, instead of the preset's")
    t.add_argument("--out", help="folder of the run (default: runs/<data>-<preset>)")
    t.add_argument("--resume", action="store_true", help="go on with the run in --out, to the same bits")
    t.add_argument("--seed", type=int, help="of everything random (default: 0)")
    t.add_argument("--steps", type=int, help="instead of the preset's")
    t.add_argument("--batch", type=int, help="instead of the preset's")
    t.add_argument("--shard", type=int, help="pairs embedded together, instead of the preset's")
    t.add_argument(
        "--recompute",
        action="store_true",
        default=None,
        help="keep no activations but run shards again: less memory, a third more time",
    )
    t.add_argument("--learning-rate", type=float, help="instead of the preset's")
    t.add_argument("--evaluate-every", type=int, metavar="STEPS", help="also evaluate during training")
    t.add_argument(
        "--threads", type=int, help="shards at once (default: one a processor); the result does not depend on it"
    )
    t.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the encoders' products, on a GPU: tf32 and bfloat16 are several times faster (default: float32)",
    )
    t.add_argument("--profile", action="store_true", help="tell at the end where the time went, by phase and by layer")
    t.add_argument(
        "--hold-out",
        metavar="STYLE",
        help="emoji: leave this training style out and be tested on it, never looking at Fluent; for choosing recipes",
    )

    e = command("evaluate", run_evaluate, "Zero-shot accuracy of a checkpoint.", "evaluate emoji")
    e.add_argument(
        "checkpoint",
        nargs="?",
        default="emoji",
        help="emoji (the one that ships), a file, a folder, or "
        "the name of a model that was downloaded, openai/clip-vit-base-patch32 (default: emoji)",
    )
    e.add_argument("--data", help="as for train (default: what it was trained on)")
    e.add_argument("--hold-out", metavar="STYLE", help="emoji: the style to be tested on (default: fluent)")
    e.add_argument("--json", action="store_true", help="print JSON")

    s = command("search", run_search, "Find emoji by a description.", 'search "yellow fruit" --style noto')
    s.add_argument("query", help="a few words")
    s.add_argument("--style", default="fluent", help="whose pictures to search (default: fluent, which it never saw)")
    s.add_argument("--count", type=int, default=10, help="how many to print (default: 10)")
    s.add_argument("--checkpoint", default="emoji", help="as for evaluate (default: emoji)")

    c = command(
        "classify",
        run_classify,
        "Name a picture, given the possible names.",
        'classify picture.png --labels "a dog,a cat,a red car"',
    )
    c.add_argument("pictures", nargs="+", help="image files")
    c.add_argument("--labels", required=True, help="names separated by commas")
    c.add_argument("--template", action="append", help='a prompt such as "a drawing of {}"; may be repeated')
    c.add_argument("--count", type=int, default=5, help="how many to print (default: 5)")
    c.add_argument("--checkpoint", default="emoji", help="as for evaluate (default: emoji)")

    g = commands.add_parser(
        "gradcheck",
        help="Prove every backward pass against its forward pass.",
        description="Prove every backward pass against its forward pass: complex step, central "
        "differences and the adjoint test at random points. Exit status 1 if one is wrong.",
        epilog="example: python -m miniclip gradcheck --layer layer_norm --method complex",
    )
    g.set_defaults(run=run_gradcheck)
    g.add_argument(
        "--layer",
        action="append",
        metavar="NAME",
        help="only this one, in full, or '*resnet*'; may be repeated (default: all)",
    )
    g.add_argument(
        "--method",
        action="append",
        choices=("complex", "central", "richardson", "adjoint"),
        help="may be repeated (default: complex, central, adjoint)",
    )
    g.add_argument(
        "--dtype",
        choices=("float64", "float32"),
        default="float64",
        help="precision of the backward pass (default: float64)",
    )
    g.add_argument("--seed", type=int, default=0, help="decides sizes, numbers and cotangents (default: 0)")
    g.add_argument("--plot", metavar="FILE", help="draw error against step for one --layer, as PNG, PDF or SVG")
    g.add_argument("--json", action="store_true", help="print JSON")
    return top
