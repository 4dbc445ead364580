"""The command line: python -m miniclip train | evaluate | search | classify | gradcheck."""

import argparse
import json
import math
import os
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from textwrap import fill

from .backend import out_of_memory
from .checkpoints import load
from .data import emoji_names, emoji_pictures, load_data
from .evaluation import evaluate, nearest_pixel_baseline, search
from .gpu import PRECISIONS, compute_dtype
from .init import MODELS
from .training import PRESETS, Phases, TrainConfig, TrainingDiverged, preset, train
from .tree import flatten


def main(arguments=None):
    """Run one command. Exit status 0, 1 where a gradient is wrong, or 2 with one sentence for bad input."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError, TrainingDiverged, MemoryError) as error:
        sentence = out_of_memory(error) if isinstance(error, MemoryError) else error
        print(f"miniclip: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("miniclip: interrupted; a training run goes on with --resume.", file=sys.stderr)
        return 130


def run_train(options):
    """train: data -> a run's folder with the model, the log and the last checkpoint."""
    phases = Phases()
    if os.environ.get("OPENBLAS_CORETYPE"):
        print(
            f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} is set: if the processor is a newer one, matrix "
            "products run at half their speed; unset it."
        )
    name = options.preset or ("shapes" if options.data == "shapes" else "default")
    config = preset(name, **{field.name: getattr(options, field.name, None) for field in fields(TrainConfig)})
    compute_dtype(config.precision, options.device)
    with phases("reading the data"):
        data, evaluations = load_data(options.data, seed=config.seed, hold_out_style=options.hold_out)
    captions = len(set(data.concept.tolist()))
    if config.batch_size > captions > 1 and options.batch_size is None:
        print(f"The preset's batch of {config.batch_size} is more than the {captions} different captions: ", end="")
        print(f"using {captions}.")
        config = replace(config, batch_size=captions)
    out = options.out or f"runs/{Path(options.data).name}-{name}"
    source = f"{data.name}: {', '.join(data.styles)}" if data.styles else data.name
    print(
        f"Training {config.model} on {len(data)} pictures of {captions} things ({source}), {config.steps} steps of "
        f"{config.batch_size}, into {out}"
    )
    where = {"threads": options.threads, "device": options.device, "resume": options.resume}
    clip, _ = train(data, config, evaluations, out, **where, phases=phases if options.profile else None)
    count = sum(leaf.size for leaf in flatten(clip.params).values())
    seconds = time.perf_counter() - phases.started
    print(
        f"{count / 1e6:.2f} M parameters, 1/τ = {math.exp(clip.params['logit_scale']):.1f}, {seconds:.0f} s. ", end=""
    )
    print(f"Saved {out}/model.safetensors: try\n  python -m miniclip evaluate {out}")
    if options.profile:
        print(f"\n{phases}")


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


def run_classify(options):
    """classify: how likely each label is for each picture."""
    from PIL import Image, ImageOps

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
    """gradcheck: backward passes, the library's or those in a file, against forward passes. 1 if one is wrong."""
    from .gradcheck import run_command

    try:
        return run_command(options)
    except KeyboardInterrupt:
        print("miniclip: interrupted.", file=sys.stderr)
        return 130


TRAIN = (  # flags of `train`: names, and what argparse takes
    ("--data", {"default": "emoji"}, "emoji, shapes, or a folder with captions.csv (columns image, caption) or one "
     "subfolder a class (default: emoji)"),
    ("--preset", {"choices": PRESETS}, "a whole configuration (default: default, or shapes for shapes)"),
    ("--model", {"choices": MODELS}, "the architecture, instead of the preset's"),
    ("--out", {}, "folder of the run (default: runs/<data>-<preset>)"),
    ("--resume", {"action": "store_true"}, "go on with the run in --out, to the same bits"),
    ("--seed", {"type": int}, "of everything random (default: 0)"),
    ("--steps", {"type": int}, "instead of the preset's"),
    ("--batch-size --batch", {"type": int}, "pairs a step, instead of the preset's"),
    ("--micro-batch --shard", {"type": int}, "pairs embedded together, instead of the preset's"),
    ("--recompute", {"action": "store_true", "default": None}, "keep no activations but run micro-batches again: less "
     "memory, a third more time"),
    ("--learning-rate", {"type": float}, "instead of the preset's"),
    ("--evaluate-every", {"type": int, "metavar": "STEPS"}, "also evaluate during training"),
    ("--threads", {"type": int}, "micro-batches at once (default: one a processor); no matter for the result"),
    ("--precision", {"choices": PRECISIONS}, "of the encoders' products, on a GPU: tf32 and bfloat16 are several times "
     "faster (default: float32)"),
    ("--profile", {"action": "store_true"}, "print at the end where the time went"),
    ("--hold-out", {"metavar": "STYLE"}, "emoji: leave this training style out and be tested on it, never looking at "
     "Fluent; for choosing configurations"),
)  # fmt: skip
CHECKPOINT = {"default": "emoji"}
EVALUATE = (
    ("checkpoint", {"nargs": "?", **CHECKPOINT}, "emoji (the one that ships), a file, a folder, or the name of a model "
     "that was downloaded, openai/clip-vit-base-patch32 (default: emoji)"),
    ("--data", {}, "as for train (default: what it was trained on)"),
    ("--hold-out", {"metavar": "STYLE"}, "emoji: the style to be tested on (default: fluent)"),
    ("--json", {"action": "store_true"}, "print JSON"),
)  # fmt: skip
SEARCH = (
    ("query", {}, "a few words"),
    ("--style", {"default": "fluent"}, "whose pictures to search (default: fluent, which it never saw)"),
    ("--count", {"type": int, "default": 10}, "how many to print (default: 10)"),
    ("--checkpoint", CHECKPOINT, "as for evaluate (default: emoji)"),
)
CLASSIFY = (
    ("pictures", {"nargs": "+"}, "image files"),
    ("--labels", {"required": True}, "names separated by commas"),
    ("--template", {"action": "append"}, 'a prompt such as "a drawing of {}"; may be repeated'),
    ("--count", {"type": int, "default": 5}, "how many to print (default: 5)"),
    ("--checkpoint", CHECKPOINT, "as for evaluate (default: emoji)"),
)
GRADCHECK = (
    ("targets", {"nargs": "*", "metavar": "FILE.py::NAME"}, "a function, a class or an object in a file of yours; "
     "FILE.py alone is all in it that has inputs, NAME_inputs(rng) (default: the layers of the library)"),
    ("--inputs", {"metavar": "FILE"}, "its arguments: FILE.npz, or FILE.py::function"),
    ("--shape", {"action": "append", "metavar": "x=4x5"}, "or their shapes, for random numbers; y=4:int<10 for "
     "integers; may be repeated"),
    ("--backward", {"metavar": "NAME"}, "its backward in the file (default: NAME_backward)"),
    ("--gradient", {"metavar": "NAME"}, "the gradient of a function that returns one number"),
    ("--wrt", {"action": "append", "metavar": "NAME"}, "differentiate only this argument; may be repeated"),
    ("--exclude", {"action": "append", "metavar": "NAME"}, "do not differentiate this one; may be repeated"),
    ("--layer", {"action": "append", "metavar": "NAME"}, "of the library only this one, in full, or '*resnet*'; may be "
     "repeated"),
    ("--method", {"action": "append", "choices": ("auto", "complex", "central", "richardson", "adjoint")},
     "may be repeated (default: auto for a file; complex, central, adjoint for the library)"),
    ("--dtype", {"choices": ("float64", "float32"), "default": "float64"},
     "precision of the backward pass (default: float64)"),
    ("--seed", {"type": int, "default": 0}, "decides sizes, numbers and cotangents (default: 0)"),
    ("--plot", {"metavar": "FILE"}, "draw error against step for one --layer, as PNG, PDF or SVG"),
    ("--json", {"action": "store_true"}, "print JSON"),
)  # fmt: skip
COMMANDS = (
    ("train", run_train, TRAIN, "Train CLIP and evaluate it zero-shot.", "--data photos/ --out runs/photos"),
    ("evaluate", run_evaluate, EVALUATE, "Zero-shot accuracy of a checkpoint.", "emoji"),
    ("search", run_search, SEARCH, "Find emoji by a description.", '"yellow fruit" --style noto'),
    ("classify", run_classify, CLASSIFY, "Name a picture, given the possible names.",
     'picture.png --labels "a dog,a cat,a red car"'),
    ("gradcheck", run_gradcheck, GRADCHECK, "Prove a backward pass of yours, or every one of the library, against its "
     "forward pass, by the complex step and central differences. Exit status 0: all are right; 1: one is wrong or "
     "could not be checked; 2: bad use, or an exception.", "homework.py::batchnorm --shape x=4x5 --shape gamma=5"),
)  # fmt: skip


def parser():
    """The argparse parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m miniclip", description="CLIP by hand in NumPy and CuPy.")
    commands = top.add_subparsers(required=True, metavar="command")
    for name, run, flags, text, example in COMMANDS:
        unwrapped = {"formatter_class": argparse.RawDescriptionHelpFormatter}  # an example is there to be copied
        epilog = f"example: python -m miniclip {name} {example}"
        command = commands.add_parser(name, help=text, description=fill(text), epilog=epilog, **unwrapped)
        command.set_defaults(run=run)
        if name != "gradcheck":
            command.add_argument(
                "--device", choices=("cpu", "gpu"), default="cpu", help="where to compute (default: cpu)"
            )
        for names, settings, words in flags:
            command.add_argument(*names.split(), help=words, **settings)
    return top
