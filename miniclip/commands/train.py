"""The command `python -m miniclip train`: data in, a run's folder out."""

import math
import os
import re
import shlex
import time
from pathlib import Path

from .asking import LOADING

# Of 5e-5, 2e-4 and 5e-4 the best for the model that ships; of CLIP's size, as in Goyal et al. 2023 (FLYP).
FINE_TUNING_RATES = {0: 2e-4, 20_000_000: 1e-5}  # from so many parameters on
USUAL_SIZE = 64  # of the pictures in pixels, for models that take no larger ones
# What there is: a test holds them against training, init and gpu.
PRESETS = ("default", "full", "words", "shapes", "vit")
MODELS = ("resnet-micro", "resnet-tiny", "resnet", "vit-tiny")
OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
OF_CHECKPOINT = tuple(flag for flag in LOADING if flag[0] != "--model")  # what else to say of --from

TRAIN = (  # flags of `train`: names, and what argparse takes
    ("--data", {"default": "emoji"}, "emoji, shapes, a folder with captions.csv (columns image, caption) or one "
     "subfolder a class, or tars that are indexed, 'shards/{000..122}.tar' (default: emoji)"),
    ("--from", {"dest": "start", "metavar": "CHECKPOINT"}, "fine-tune this model, with its architecture, tokenizer and "
     "preprocessing: emoji, a file, a folder, or a name, as for evaluate"),
    ("--freeze", {"choices": ("image", "text")}, "with --from: keep the encoder of pictures, or of texts, as it is"),
    ("--blend", {"type": float, "metavar": "SHARE"}, "with --from: the result is this share of the fine-tuned "
     "parameters, and for the rest what it began with, so that less is forgotten (default: 1)"),
    *OF_CHECKPOINT,
    ("--preset", {"choices": PRESETS}, "a whole configuration (default: default, or shapes for shapes); words, with "
     "--from, is a second stage in which a model learns to read over what stands around a name"),
    ("--model", {"choices": MODELS}, "the architecture, instead of the preset's"),
    ("--out", {}, "folder of the run (default: runs/<data>-<preset>, or runs/<data>-from-<checkpoint>)"),
    ("--resume", {"action": "store_true"}, "go on with the run in --out, to the same bits"),
    ("--seed", {"type": int}, "of everything random (default: 0)"),
    ("--steps", {"type": int}, "instead of the preset's"),
    ("--batch-size --batch", {"type": int}, "pairs a step, instead of the preset's"),
    ("--micro-batch --shard", {"type": int}, "pairs embedded together, instead of the preset's"),
    ("--recompute", {"action": "store_true", "default": None}, "keep no activations but run micro-batches again: less "
     "memory, a third more time"),
    ("--optimizer", {"choices": OPTIMIZERS}, "instead of the preset's or, with --from and another preset than words, "
     "of adamw"),
    ("--learning-rate", {"type": float}, "instead of the preset's or, with --from and another preset than words, of "
     "2e-4, or 1e-5 for a model of 20 million parameters or more"),
    ("--evaluate-every", {"type": int, "metavar": "STEPS"}, "also evaluate during training"),
    ("--checkpoint-every", {"type": int, "metavar": "STEPS"}, "keep a checkpoint to resume from every so many steps"),
    ("--threads", {"type": int}, "micro-batches at once (default: one a processor); no matter for the result"),
    ("--precision", {"choices": PRECISIONS}, "of the encoders' products, on a GPU: tf32 and bfloat16 are several times "
     "faster (default: float32)"),
    ("--ring", {"action": "store_true", "default": None}, "under mpirun: texts travel from rank to rank, none holds "
     "all embeddings; slower, for the largest batches"),
    ("--profile", {"action": "store_true"}, "print at the end where the time went"),
    ("--hold-out", {"metavar": "STYLE"}, "emoji: leave this training style out and be tested on it, never looking at "
     "Fluent; for choosing configurations"),
)  # fmt: skip


def run_train(options):
    """train: data -> a run's folder with the model, the log and the last checkpoint."""
    from ..data import load_data, names_tars
    from ..gpu import compute_dtype
    from ..training import Phases, all_ranks, train

    ranks = all_ranks()
    phases = Phases()
    if os.environ.get("OPENBLAS_CORETYPE"):
        print(
            f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} is set: if the processor is a newer one, matrix "
            "products run at half their speed; unset it."
        )
    name = options.preset or ("shapes" if options.data == "shapes" else "default")
    kind = "from-" + re.sub(r"\W+", "-", options.start).strip("-") if options.start else name
    tars = options.data not in ("emoji", "shapes") and names_tars(options.data)
    source = re.sub(r"[^\w.-]+", "-", Path(options.data).resolve().name).strip("-")
    out = Path(options.out or f"runs/{source}-{kind}")
    folder = None if tars or options.data in ("emoji", "shapes") else Path(options.data).resolve()
    if folder in (out.resolve(), *out.resolve().parents):
        raise ValueError(f"the run's folder, {out}, would lie among the pictures of {options.data}: choose another.")
    start = ranks.first(lambda: start_of(options, out))
    config = configuration(options, name, start)
    compute_dtype(config.precision, options.device)
    side = start.config["vision_cfg"]["image_size"] if start else 0
    with phases("reading the data"):
        size = side if side > USUAL_SIZE else None
        data, evaluations = load_data(options.data, size, seed=config.seed, hold_out_style=options.hold_out)
    if options.resume and not (out / "last.safetensors").exists():
        print(f"{out} holds no run to go on with: starting anew.")

    def announce(run):
        things, batch_size = len(run.batches.things), run.config.batch_size
        if batch_size < config.batch_size:
            print(f"The preset's batch of {config.batch_size} is more than the {things} different captions: ", end="")
            print(f"using {batch_size}.")
        source = data.name if tars or not data.styles else f"{data.name}: {', '.join(data.styles)}"
        what = f"Training {config.model}"
        if start:
            frozen = f", its {config.freeze} encoder frozen," if config.freeze else ""
            what = f"Fine-tuning {start.about.get('checkpoint', 'a model')}{frozen}"
        of = f"{len(data):,} pairs" if tars else f"{len(data)} pictures of {things} things"
        print(
            f"{what} on {of} ({source}), {config.steps} steps of {batch_size}, "
            f"into {out}{f', on {ranks.size} ranks' * (ranks.size > 1)}"
        )
        if tars and (missing := ", ".join(f"{count:,} {name}" for name, count in data.left_out.items() if count)):
            print(f"Left out of the tars: {missing}.")
        if start and may_have_seen(start.about, folder, config.seed, options.hold_out):
            print("Beware: it may have been trained on pictures that it is asked about here.")

    where = {"threads": options.threads, "device": options.device, "resume": options.resume}
    about = {"data": str(folder)} if folder else {}
    began = {
        "ranks": ranks,
        "start": start,
        "lower_batch": options.batch_size is None,
        "about": about,
        "announce": announce,
    }
    clip, rows = train(data, config, evaluations, out, **where, **began, phases=phases if options.profile else None)
    seconds, scale = time.perf_counter() - phases.started, math.exp(clip.params["logit_scale"])
    print(f"{parameters_of(clip) / 1e6:.2f} M parameters, 1/τ = {scale:.1f}, {seconds:.0f} s. ", end="")
    hint = f"python -m miniclip evaluate {shlex.quote(str(out.resolve()))}"
    if options.hold_out:
        hint += f" --hold-out {shlex.quote(options.hold_out)}"
    hint = hint if evaluations else f"miniclip.load({str(out.resolve())!r})"
    print(f"Saved {out / 'model.safetensors'}: try\n  {hint}")
    if warning := rows and rows[-1].get("warning"):
        print(f"Beware: {warning}")
    if options.profile:
        print(f"\n{phases}")


def start_of(options, out):
    """The CLIP to fine-tune: that of --from or, to resume, the copy of it that `out` keeps. None for a new one."""
    from ..checkpoints import load
    from ..training import kept_start

    said = {name: getattr(options, name) for name in ("quick_gelu", "head_width", "image_size")}
    if options.start is None:
        for name, value in said.items():
            if value is not None:
                raise ValueError(f"--{name.replace('_', '-')} is said of a model that exists: give it with --from.")
        return kept_start(out) if options.resume else None
    try:
        clip = load(options.start, **said)
    except FileNotFoundError:
        kept = kept_start(out) if options.resume else None
        if not kept:
            raise
        print(f"{options.start} is not here: going on from the copy of it in {out}.")
        return kept
    path = Path(options.start)
    clip.about["checkpoint"] = str(path.resolve()) if options.start != "emoji" and path.exists() else options.start
    return clip


def may_have_seen(about, folder, seed, style):
    """Whether a model of this `about` was trained on what is held out of a folder with this seed, or on a style."""
    config = about.get("config")
    other_seed = not isinstance(config, dict) or config.get("seed") != seed
    return style is not None or folder is not None and about.get("data") == str(folder) and other_seed


def configuration(options, name, start):
    """The TrainConfig of a preset, with what the options change. Raises ValueError where they contradict `start`."""
    from dataclasses import fields

    from ..init import model_config
    from ..training import TrainConfig, preset

    said = {field.name: getattr(options, field.name, None) for field in fields(TrainConfig)}
    if start and options.model:
        wanted = model_config(options.model)
        if any(architecture(start.config)[key] != value for key, value in architecture(wanted).items()):
            of = f"{start.about.get('checkpoint', 'the model')} is not of the architecture {options.model}"
            raise ValueError(f"{of}: leave out --model.")
    own = preset(name).blend < 1  # a second stage, which knows how to go on with a model
    if start and options.optimizer is None and not own:
        said["optimizer"] = "adamw"
    if start and options.learning_rate is None and not own:
        size = parameters_of(start)
        said["learning_rate"] = next(rate for least, rate in reversed(FINE_TUNING_RATES.items()) if size >= least)
    return preset(name, **said)


def architecture(config):
    """What a model's configuration says, but for its vocabulary and its pictures' colours."""
    text = {key: config["text_cfg"].get(key) for key in ("width", "heads", "layers")}
    return {key: config[key] for key in ("embed_dim", "vision_cfg", "quick_gelu")} | {"text_cfg": text}


def parameters_of(clip):
    """How many numbers a model has learned."""
    from ..tree import flatten

    return sum(leaf.size for leaf in flatten(clip.params).values())
