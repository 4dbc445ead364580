"""What fits: measured on a stand-in whose steps take known amounts of memory."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cupy_double import cupy_double
from test_loop import SMALL, shapes  # noqa: F401

from miniclip import memory
from miniclip import train as loop
from miniclip.backend import OutOfMemory
from miniclip.cli import main
from miniclip.training.config import TrainConfig
from miniclip.training.loop import Run, train
from miniclip.training.memory import Need, choose, measure

RECIPE = replace(SMALL, batch=16, shard=8)
BLOCK = 1 << 13  # bytes
NEED = Need(*(count * BLOCK for count in (500, 70, 300, 100)))


@pytest.fixture
def full(monkeypatch):
    """A card of `full.room` bytes beside the run's own, whose step takes what NEED says and computes nothing."""
    with cupy_double() as card:
        import cupy

        full = SimpleNamespace(card=card, room=None, steps=[])

        def step(params, shards, config, gradient, map=map, recompute=False, *others):
            given = sum(images.nbytes for images, _ in shards)  # of what is needed
            if full.room is not None:  # the first step of a run
                card.memory, full.room = card.used - given + full.room, None
            sizes = [len(images) for images, _ in shards]
            full.steps.append((sizes, recompute))
            cupy.empty(int(NEED.bytes(sum(sizes), max(sizes), recompute)) - given, np.uint8)  # and lets it go
            gradient.vector[...] = 0
            return {"loss": cupy.zeros((), np.float32), "d_logit_scale": cupy.zeros((), np.float32)}

        monkeypatch.setattr(memory, "loss_and_gradient", step)
        monkeypatch.setattr(loop, "loss_and_gradient", step)
        yield full


def test_a_few_tiny_steps_tell_what_a_large_one_needs(full, shapes, tmp_path):
    full.room = 1 << 30
    need = measure(Run(shapes[0], RECIPE, tmp_path, device="gpu"))
    assert need == Need(*map(pytest.approx, (NEED.fixed, NEED.shard, NEED.work, NEED.held)))
    assert max(sum(sizes) for sizes, _ in full.steps) == 8  # none larger than one shard of the batch


@pytest.mark.parametrize(
    "changes, share, expected",
    [
        ({}, 0.99, (256, 32, False)),
        ({}, 0.87, (256, 16, False)),
        ({}, 0.8, (256, 64, True)),
        ({}, 0.2, (256, 16, True)),
        ({"recompute": True}, 0.51, (256, 32, True)),
        ({}, 0.05, (128, 4, True)),
        ({}, 1e-6, None),
    ],
)
def test_what_changes_least_is_chosen(changes, share, expected):
    """Sizes as of a real model: a pair takes 1 MB at work and 0.5 MB held, a shard's gradient 0.1 MB."""
    need, recipe = Need(0, 1e5, 1e6, 5e5), TrainConfig(batch=256, shard=64, **changes)
    room = share * need.bytes(256, 64, False) / memory.SPARE
    found = choose(need, room, recipe)
    assert found == expected
    if found:
        assert need.bytes(*found) <= room * memory.SPARE and found != (256, 64, recipe.recompute)


def test_a_run_that_does_not_fit_says_what_would(full, shapes, tmp_path):
    full.room = NEED.bytes(16, 8, False) - 1
    with pytest.raises(OutOfMemory) as raised:
        train(shapes[0], RECIPE, out=tmp_path / "a", device="gpu", progress=False)
    said = str(raised.value)
    assert re.match(
        r"^the graphics card's memory of 0.1 GiB ran out: a batch of 16 in shards of 8 did not fit. By an "
        r"estimate from a few pairs, of \S+ MiB each, --batch \d+ --shard \d+( --recompute)? would fit; "
        r"that is another recipe, so start again with another --out.$",
        said,
    ), said
    batch, shard = map(int, re.findall(r"--(?:batch|shard) (\d+)", said))
    recipe = replace(RECIPE, batch=batch, shard=shard, recompute="--recompute" in said, steps=1)
    full.card.memory, full.room = 8 << 30, NEED.bytes(16, 8, False) - 1  # the error still holds the first run
    train(shapes[0], recipe, out=tmp_path / "b", device="gpu", progress=False)  # and it does
    assert batch == 16


def test_a_card_on_which_nothing_fits(full, shapes, tmp_path):
    full.room = 1000
    with pytest.raises(OutOfMemory, match="has 0.0 GiB.*Here, a batch of 16 in shards of 8 did not fit, and no "):
        train(shapes[0], RECIPE, out=tmp_path, device="gpu", progress=False)


def test_the_command_line_says_it_in_one_sentence(full, tmp_path, capsys):
    full.room = NEED.bytes(16, 8, False) - 1
    assert (
        main(
            [
                "train",
                "--data",
                "shapes",
                "--batch",
                "16",
                "--shard",
                "8",
                "--out",
                str(tmp_path / "out"),
                "--device",
                "gpu",
                "--steps",
                "2",
            ]
        )
        == 2
    )
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("miniclip: the graphics card's memory of 0.1 GiB ran out: a batch of 16 ")
    assert "--batch 16 --shard 4 would fit" in said


def test_the_machines_own_memory(shapes, tmp_path, monkeypatch):
    def step(*args):
        return np.empty(1 << 56)  # half an exabyte

    monkeypatch.setattr(loop, "loss_and_gradient", step)
    with pytest.raises(
        OutOfMemory,
        match="^the machine's memory ran out .Unable to allocate .*Here, a batch of 16 in "
        "shards of 8 did not fit: a smaller --shard with --recompute",
    ):
        train(shapes[0], RECIPE, out=tmp_path, progress=False)
