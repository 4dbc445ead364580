"""How many pairs a second does a core read out of tars, and how long does it take to index them?

    python benchmarks/tars.py                       a minute of one core that is free

Tars are written to a temporary folder: pictures like photographs (smooth, with grain), JPEG of quality 90 whose shorter
side is 256, read for a model of 224, and PNG of 64 read for one of 64; captions of 14 words. Measured are, in seconds
of the processor, which other work on the machine hardly changes: `index_tar`, a pair; `TarSet`, a tar that is indexed;
`TarBatches`, a batch of 256 in micro-batches of 64, all of it (reading, decoding, cropping, normalising, tokens of
CLIP's vocabulary); and what each rank does for pairs of other ranks, as none is to come twice. The files are in memory
(the system's cache): a disk or a network comes on top. Reported are the median and the best of the rounds.
"""

import argparse
import io
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from common import RESULTS, describe, machine, write_json
from PIL import Image

from miniclip.backend import worker_threads
from miniclip.data import index_tar, tar_data
from miniclip.init import model_config
from miniclip.tokenizer import Tokenizer
from miniclip.training import TarBatches, TrainConfig, keep_freed_memory

CASES = {  # format, size in the tar (height, width), size of the model
    "JPEG 256 × 256 → 224": ("JPEG", (256, 256), 224),
    "JPEG 256 × 341 → 224": ("JPEG", (256, 341), 224),
    "PNG 64 → 64": ("PNG", (64, 64), 64),
}
ASKED = {"index": 150, "JPEG": 250}  # µs a pair, pictures a second
PICTURES = 24  # different ones
WORDS = "a photo of the small red house that stands between two old trees number"


def picture(rng, format, size):
    """The bytes of a picture like a photograph."""
    coarse = Image.fromarray(rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.int16)
    grainy = (smooth + rng.integers(-12, 13, (*size, 1))).clip(0, 255).astype(np.uint8)
    Image.fromarray(grainy).save(content := io.BytesIO(), format, quality=90)
    return content.getvalue()


def write_tar(path, pictures, ending, count, first):
    """A tar of so many pairs, numbered from `first` on."""
    with tarfile.open(path, "w") as tar:
        for k in range(first, first + count):
            for name, content in ((ending, pictures[k % PICTURES]), ("txt", f"{WORDS} {k}".encode())):
                member = tarfile.TarInfo(f"{k:09}.{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def seconds_of(function):
    """Seconds of the processor that a call takes."""
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(case, rounds, tars, pairs, batch_size):
    """{what: seconds of each round}, each of a pair, a tar or a picture."""
    format, size, side = CASES[case]
    rng, tokenizer = np.random.default_rng(0), Tokenizer.clip()
    pictures = [picture(rng, format, size) for _ in range(PICTURES)]
    config = model_config("vit-tiny", vocab_size=tokenizer.vocab_size, context_length=77)
    config["vision_cfg"]["image_size"] = side
    found = {"index": [], "open": [], "read": [], "others": []}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{t:02}.tar" for t in range(tars)]
        for t, path in enumerate(paths):
            write_tar(path, pictures, {"JPEG": "jpg"}.get(format, "png"), pairs, t * pairs)
        for _ in range(rounds):
            for index in Path(folder).glob("*.npz"):
                index.unlink()
            found["index"].append(seconds_of(lambda: [index_tar(path) for path in paths]) / (tars * pairs))
            found["open"].append(seconds_of(lambda: tar_data(folder)) / tars)
        plan = TrainConfig("vit-tiny", batch_size=batch_size, micro_batch=batch_size // 4)
        batches = TarBatches(tar_data(folder), tokenizer, config, plan)
        batches(0)
        for step in range(1, rounds + 1):
            found["read"].append(seconds_of(lambda: batches(step)) / batch_size)
            found["others"].append(seconds_of(lambda: batches.draw(step)) / batch_size)
    return found | {"bytes": sum(map(len, pictures)) / PICTURES}


def main(arguments=None):
    """Measure, print and write the results. Exit status 0."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="a few pairs, for a test")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path, default=RESULTS / "tars.json")
    options = options.parse_args(arguments)
    scale = (
        {"tars": 2, "pairs": 12, "batch_size": 8} if options.quick else {"tars": 4, "pairs": 1500, "batch_size": 256}
    )
    where = machine(1)
    print(describe(where))
    keep_freed_memory()
    cases = {}
    with worker_threads(1):  # BLAS is held to one thread, as in training
        for case in CASES:
            cases[case] = found = measure(case, options.rounds, **scale)
            index, read = found["index"], found["read"]
            print(
                f"{case}, {found['bytes'] / 1000:.1f} kB: {1 / median(read):,.0f} pictures/s a core (best "
                f"{1 / min(read):,.0f}); index {1e6 * median(index):.0f} µs a pair (best {1e6 * min(index):.0f}); "
                f"{1e3 * median(found['open']):.2f} ms a tar at the start; a pair of another rank "
                f"{1e6 * median(found['others']):.1f} µs"
            )
    print(f"Asked for: index {ASKED['index']} µs a pair at most, JPEG 256 → 224 at least {ASKED['JPEG']} pictures/s.")
    write_json({"machine": where, "asked": ASKED, **scale, "cases": cases}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
