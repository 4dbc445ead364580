"""The command `python -m miniclip train`: data in, a run's folder out."""

import math
import os
import shlex
import time
from dataclasses import fields, replace
from pathlib import Path

from ..data import load_data
from ..gpu import PRECISIONS, compute_dtype
from ..init import MODELS
from ..training import PRESETS, Phases, TrainConfig, preset, train
from ..tree import flatten

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
    ("--checkpoint-every", {"type": int, "metavar": "STEPS"}, "keep a checkpoint to resume from every so many steps"),
    ("--threads", {"type": int}, "micro-batches at once (default: one a processor); no matter for the result"),
    ("--precision", {"choices": PRECISIONS}, "of the encoders' products, on a GPU: tf32 and bfloat16 are several times "
     "faster (default: float32)"),
    ("--profile", {"action": "store_true"}, "print at the end where the time went"),
    ("--hold-out", {"metavar": "STYLE"}, "emoji: leave this training style out and be tested on it, never looking at "
     "Fluent; for choosing configurations"),
)  # fmt: skip


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
    out = Path(options.out or f"runs/{Path(options.data).resolve().name}-{name}")
    its_own = options.data in ("emoji", "shapes")
    if not its_own and Path(options.data).resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(f"the run's folder, {out}, would lie among the pictures of {options.data}: choose another.")
    if options.resume and not (out / "last.safetensors").exists():
        print(f"{out} holds no run to go on with: starting anew.")
    source = f"{data.name}: {', '.join(data.styles)}" if data.styles else data.name
    print(
        f"Training {config.model} on {len(data)} pictures of {captions} things ({source}), {config.steps} steps of "
        f"{config.batch_size}, into {out}"
    )
    where = {"threads": options.threads, "device": options.device, "resume": options.resume}
    clip, rows = train(data, config, evaluations, out, **where, phases=phases if options.profile else None)
    count = sum(leaf.size for leaf in flatten(clip.params).values())
    seconds = time.perf_counter() - phases.started
    print(
        f"{count / 1e6:.2f} M parameters, 1/τ = {math.exp(clip.params['logit_scale']):.1f}, {seconds:.0f} s. ", end=""
    )
    hint = f"python -m miniclip evaluate {shlex.quote(str(out))}"
    if options.hold_out:
        hint += f" --hold-out {shlex.quote(options.hold_out)}"
    print(f"Saved {out / 'model.safetensors'}: try\n  {hint if evaluations else f'miniclip.load({str(out)!r})'}")
    if warning := rows and rows[-1].get("warning"):
        print(f"Beware: {warning}")
    if options.profile:
        print(f"\n{phases}")
