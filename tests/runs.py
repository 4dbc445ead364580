"""Small training runs, for tests."""

import numpy as np

from miniclip.data import PictureSet
from miniclip.training import TrainConfig, train

SMALL = TrainConfig(
    "resnet-micro",
    steps=6,
    batch_size=8,
    micro_batch=3,
    warmup=2,
    vocab_size=700,
    checkpoint_every=2,
    log_every=1,
    mix=0.3,
)


def run_to_the_end(shapes, out, config=SMALL, **options):
    """The log of a run on these shapes."""
    return train(shapes[0], config, out=out, progress=False, **options)[1]


def some(data, count):
    """The first `count` things of a PictureSet, one picture each."""
    rows = [int(np.flatnonzero(data.concept == k)[0]) for k in range(count)]
    return PictureSet(data.name, data.pictures[rows], np.arange(count), data.captions[:count])


def without_timing(rows):
    return [{key: value for key, value in row.items() if key != "examples_per_second"} for row in rows]


def contents(folder):
    """{name: bytes} of the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def take_step(run):
    """One step of a `Run`, as the training loop takes it."""
    micro_batches = run.draw()
    run.update(run.differentiate(micro_batches), micro_batches)
