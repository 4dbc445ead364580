"""What would it take to train CLIP as its paper did: 400 million pairs, 32 times, in batches of 32,768? On paper.

    python benchmarks/plan.py                          with the assumptions below
    python benchmarks/plan.py --flops 3e13             of slower cards
    python benchmarks/scaling.py --plan                the first again

Nothing here is measured, but for the pictures that a core decodes, where results/tars.json has them. What is counted
follows from shapes: the operations of a step's matrix products (floor.py counts them, at one layer a tower and at two;
the others are as many again), the parameters, and the numbers that a rank receives (gathered_loss.py, ring_loss.py,
ranks.py). What is modelled follows from the assumptions, which are the arguments: how fast a card, its memory and its
link are, and the size of a pair. The model is

    time of a step = operations / a card's + bytes received / the link's + messages × latency + AdamW's bytes / memory's

so nothing overlaps, every link is as fast as any other, and the readers keep up. Left out are what is not a matrix
product, but for AdamW, which every rank does whole, and evaluation, checkpoints, broken cards. Efficiency is the time
of one card that had all the work, over R times that of R cards. A check of the model: the paper's ViT-L/14 took 12 days
on 256 V100 (section 2.5); with 3e13 operations a second, a quarter of what such a card can do at most, it is 10.5 here.

P counts the running averages of a ResNet's norms too: they stand in the vector that is added.
"""

import argparse
import json
import sys
from statistics import median

import numpy as np
from cases import VIT_B32, TrainingState, inputs
from common import RESULTS
from floor import operations, products_of

from miniclip.init import is_resnet, parameter_shapes
from miniclip.training import keep_freed_memory

PAIRS, EPOCHS, BATCH = 400_000_000, 32, 32768
RANKS = (8, 16, 32, 64, 128, 256)
MODELS = {
    "ViT-B/32": VIT_B32,
    "ViT-L/14": {
        "embed_dim": 768,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14},
        "text_cfg": VIT_B32["text_cfg"] | {"width": 768, "heads": 12},
    },
    "RN50": {
        "embed_dim": 1024,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64},
        "text_cfg": VIT_B32["text_cfg"],
    },
}
ASSUMED = {  # argument: (default, what it is)
    "flops": (1.5e14, "operations a second that a card sustains"),
    "bandwidth": (2.5e10, "bytes a second that a card receives"),
    "latency": (1e-5, "seconds that a message takes besides its bytes"),
    "memory": (2e12, "bytes a second between a card and its memory"),
    "pair_bytes": (25_000, "bytes of a JPEG of 256 px and its caption"),
    "pictures": (250, "pictures a second that a core reads, where none were measured"),
}
NUMBER = 4  # bytes: what travels is float32
ADAMW = 10  # numbers that AdamW reads or writes for each parameter: θ, its average, both moments, the gradient twice
TAR_BYTES = 2 * 512 + 512  # of a pair in a tar: two headers, and half a block, on average, after each file
INDEX_BYTES = 4 * 8
DECODED = "JPEG 256 × 256 → 224"  # of tars.json


def operations_of_a_pair(config):
    """{"step": operations of a pair's matrix products in both encoders, "encode": of the forward pass alone}."""

    def count(images, texts):
        vision, text = config["vision_cfg"], config["text_cfg"]
        vision = vision if is_resnet(config) else vision | {"layers": images}
        small = config | {"vision_cfg": vision, "text_cfg": text | {"layers": texts, "vocab_size": 64}}
        params, *pair = inputs(small, 1)
        state = TrainingState(params, [tuple(pair)], small)
        of_loss = 6 * config["embed_dim"]  # its three products, for one pair
        step, encode = (operations(products_of(state, what)) for what in ("step", "encode"))
        return np.array([step - of_loss, encode])

    total = least = count(1, 1)
    total = total + (config["text_cfg"]["layers"] - 1) * (count(1, 2) - least)
    if not is_resnet(config):
        total = total + (config["vision_cfg"]["layers"] - 1) * (count(2, 1) - least)
    return dict(zip(("step", "encode"), total.tolist()))


def received(ranks, e, p, batch=BATCH):
    """Numbers that a rank receives in a step: {"gathered": of that loss, "ring": of that, "gradient": of its sum}."""
    rest = batch - batch // ranks
    ring = batch * (3 * e + 5) if ranks > 1 else 0
    return {"gathered": rest * (2 * e + 6), "ring": ring, "gradient": 2 * p * (ranks - 1) / ranks}


def model_step(ranks, work, e, p, assumed, loss="gathered"):
    """Seconds of a step, by what they go to. work: operations of a pair; assumed: as the arguments are."""
    n = BATCH / ranks
    numbers = received(ranks, e, p)
    messages = {"gathered": 3 * (ranks - 1), "ring": 2 * ranks}[loss] + 2 * (ranks - 1)
    products = 8 * n * BATCH * e  # of either loss: S twice, and each side's gradient
    return {
        "encoders": n * work / assumed["flops"],
        "loss": products / assumed["flops"],
        "of the loss": numbers[loss] * NUMBER / assumed["bandwidth"],
        "of the gradient": numbers["gradient"] * NUMBER / assumed["bandwidth"],
        "latency": messages * assumed["latency"] if ranks > 1 else 0,
        "AdamW": ADAMW * p * NUMBER / assumed["memory"],
    }


def pictures_a_second(assumed):
    """(pictures a second that a core reads, where the number is from)"""
    path = RESULTS / "tars.json"
    if path.exists():
        seconds = json.loads(path.read_text())["cases"].get(DECODED, {}).get("read")
        if seconds:
            return 1 / median(seconds), f"measured, {path.name}: {DECODED}, on one core of the machine named there"
    return assumed["pictures"], "assumed"


def report_model(name, config, assumed, decoding):
    """Markdown: what is counted of a model, and what is modelled on R cards."""
    work, e = operations_of_a_pair(config), config["embed_dim"]
    p = sum(int(np.prod(shape)) for shape in parameter_shapes(config).values())
    steps = PAIRS * EPOCHS // BATCH
    alone = sum(model_step(1, work["step"], e, p, assumed).values())
    lines = [
        f"### {name}",
        "",
        f"Counted: E = {e}, P = {p:,}; {work['step'] / 1e9:.1f} GFLOP a pair and step, {work['encode'] / 1e9:.1f} of "
        f"them forward, which --recompute does twice; {work['step'] * PAIRS * EPOCHS:.2g} in all {steps:,} steps. The "
        f"gather brings more than the gradient's sum from N = P/E = {p // e:,} pairs on, the ring from about 2P/3E = "
        f"{2 * p // (3 * e):,}.",
        "",
        "| modelled: R cards | pairs each | encoders | loss | AdamW | received: gathered (ring) | gradient "
        "| on the way | a step | efficiency | all | pairs/s | read | decoding cores a card |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for ranks in RANKS:
        seconds, numbers = model_step(ranks, work["step"], e, p, assumed), received(ranks, e, p)
        step = sum(seconds.values())
        travel = seconds["of the loss"] + seconds["of the gradient"] + seconds["latency"]
        megabytes = {what: f"{count * NUMBER / 1e6:,.0f}" for what, count in numbers.items()}
        rate = BATCH / step
        cells = [
            str(ranks),
            f"{BATCH // ranks:,}",
            *(f"{seconds[what] * 1000:,.1f} ms" for what in ("encoders", "loss", "AdamW")),
            f"{megabytes['gathered']} ({megabytes['ring']}) MB",
            f"{megabytes['gradient']} MB",
            f"{travel * 1000:,.1f} ms",
            f"{step * 1000:,.0f} ms",
            f"{alone / (ranks * step):.0%}",
            f"{steps * step / 86400:,.1f} days",
            f"{rate:,.0f}",
            f"{rate * assumed['pair_bytes'] / 1e9:.2f} GB/s",
            f"{rate / decoding / ranks:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def report_data(assumed, decoding, origin):
    """Markdown: what the pairs take on disks."""
    size, smaller = assumed["pair_bytes"], assumed["pair_bytes"] * (224 / 256) ** 2
    return (
        f"Modelled: {PAIRS:,} pairs take {PAIRS * (size + TAR_BYTES) / 1e12:.1f} TB in tars at 256 px, "
        f"{PAIRS * (smaller + TAR_BYTES) / 1e12:.1f} TB at 224 px (as many bytes a pixel), of which "
        f"{PAIRS * TAR_BYTES / 1e12:.1f} TB are the tars' own; the index takes {PAIRS * INDEX_BYTES / 1e9:.1f} GB "
        f"(counted). A core reads {decoding:,.0f} pictures/s ({origin})."
    )


def positive(text):
    """A number above 0, of the command line."""
    if not 0 < (number := float(text)) < np.inf:
        raise argparse.ArgumentTypeError(f"{text} must be above 0 and finite.")
    return number


def main(arguments=None):
    """Print the plan. -> exit status"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, what) in ASSUMED.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=positive, default=default, help=f"{what}: {default:g}")
    parser.add_argument("--model", action="append", choices=MODELS, help="one of them; may be given again")
    assumed = vars(parser.parse_args(arguments))
    decoding, origin = pictures_a_second(assumed)
    keep_freed_memory()
    print(f"## The plan on paper: {PAIRS:,} pairs × {EPOCHS} epochs, batch {BATCH:,}\n")
    print("Every figure is modelled, or counted where it says so; none was measured on cards. Assumed:\n")
    print("\n".join(f"- {what}: {assumed[name]:g}" for name, (_, what) in ASSUMED.items()))
    for name in assumed["model"] or MODELS:
        print("\n" + report_model(name, MODELS[name], assumed, decoding), flush=True)
    print("\n" + report_data(assumed, decoding, origin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
