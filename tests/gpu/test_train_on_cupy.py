"""The training loop on a graphics card, a double of it: what it waits for, and what it finds."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from test_loop import SMALL, run_to_the_end, shapes, without_timing  # noqa: F401

from miniclip.checkpoints.checkpoint import read_arrays
from miniclip.init import MODELS
from miniclip.training.batches import Batches
from miniclip.training.loop import Run, TrainingDiverged
from miniclip.tree import flatten

EVERY_THIRD = replace(SMALL, log_every=3, checkpoint_every=6)
SMALLEST = {
    "embed_dim": 32,
    "text_cfg": {"width": 16, "heads": 2, "layers": 1},
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
}


@pytest.fixture(autouse=True)
def smallest(monkeypatch):
    """The double is slow: there is a smaller model meanwhile, under the name of one that there is."""
    monkeypatch.setitem(MODELS, SMALL.model, SMALLEST)


@pytest.fixture
def watched(monkeypatch, card):
    """[(method, steps done, waits of the main thread for the card)] of each step and each look."""
    seen = []
    for name in ("advance", "look"):

        def method(run, *args, original=getattr(Run, name), name=name):
            with card.counting() as counts:
                original(run, *args)
            seen.append((name, run.step, len([wait for wait in counts.syncs if "in the thread" not in wait])))

        monkeypatch.setattr(Run, name, method)
    return seen


def test_the_card_is_read_only_where_the_log_is_due(shapes, tmp_path, card, watched):
    with card.counting() as counts:
        run_to_the_end(shapes, tmp_path, EVERY_THIRD, device="gpu", threads=2)
    assert [(step, waits) for name, step, waits in watched if name == "advance"] == [(i, 0) for i in range(1, 7)]
    assert [(step, waits) for name, step, waits in watched if name == "look"] == [(3, 1), (6, 1)]
    events = [wait for wait in counts.syncs if "Event" in wait]
    assert len(events) == 6 and all("in the thread prefetch" in wait for wait in events)
    assert sum(copy.startswith("prefetch.py:") for copy in counts.uploads) == 6


def test_it_is_the_run_of_the_cpu(shapes, tmp_path, card):
    """Up to the order of sums: the same batches, the same numbers in the log at the same steps."""
    there = run_to_the_end(shapes, tmp_path / "gpu", EVERY_THIRD, device="gpu")
    here = run_to_the_end(shapes, tmp_path / "cpu", EVERY_THIRD)
    assert [row["step"] for row in there] == [row["step"] for row in here] == [3, 6]
    for a, b in zip(without_timing(there), without_timing(here)):
        assert a.keys() == b.keys()
        assert all(a[key] == pytest.approx(b[key], rel=1e-3) for key in a)
    assert [json.loads(line) for line in (tmp_path / "gpu/log.jsonl").read_text().splitlines()] == there
    a, b = (read_arrays(tmp_path / device / "last.safetensors")[0] for device in ("gpu", "cpu"))
    assert a.keys() == b.keys() and all(np.allclose(a[name], b[name], atol=1e-2) for name in a)


def test_a_run_that_was_broken_off_goes_on(shapes, tmp_path, card, monkeypatch):
    recipe, once = replace(EVERY_THIRD, checkpoint_every=2), tmp_path / "once"
    expected = run_to_the_end(shapes, once, recipe, device="gpu")
    advance = Run.advance

    def until_the_fifth(run, map):
        if run.step == 4:
            raise KeyboardInterrupt
        advance(run, map)

    monkeypatch.setattr(Run, "advance", until_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        run_to_the_end(shapes, tmp_path / "again", recipe, device="gpu")
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    monkeypatch.setattr(Run, "advance", advance)
    rows = run_to_the_end(shapes, tmp_path / "again", recipe, device="gpu", resume=True)
    assert without_timing(rows) == without_timing(expected)
    for name in ("last.safetensors", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (once / name).read_bytes()


@pytest.mark.parametrize(
    "rate, sentence",
    [
        (1e25, "step 2: the loss is nan, the gradient's norm nan. "),
        (1e39, "step 2: the loss is nan, the gradient's norm nan. "),
    ],
)
def test_divergence_is_found_at_the_next_look_and_before_anything_is_kept(shapes, tmp_path, card, rate, sentence):
    recipe = replace(EVERY_THIRD, learning_rate=rate, warmup=0, checkpoint_every=3)
    with pytest.raises(
        TrainingDiverged,
        match=f"^{sentence}The last good checkpoint, of step 0, is kept in .*; try a lower learning rate.$",
    ):
        run_to_the_end(shapes, tmp_path, recipe, device="gpu")
    state, _ = read_arrays(tmp_path / "last.safetensors")
    assert state["count"] == 0 and all(np.isfinite(array).all() for array in state.values())
    assert (tmp_path / "log.jsonl").read_text() == ""


@pytest.mark.parametrize("steps, named", [(1, "step 1"), (3, "steps 1 to 3")])
def test_parameters_that_no_loss_betrays(shapes, tmp_path, card, steps, named):
    """A token that no caption has: its row is in no loss."""
    run = Run(shapes[0], SMALL, tmp_path, device="gpu")
    for _ in range(steps):
        run.advance()
    unused = flatten(run.params.tree)["token_embedding.weight"]
    unused[unused.shape[0] - 3] = np.nan
    with pytest.raises(TrainingDiverged, match=f"^{named}: a learning rate of .* makes parameters that are not finite"):
        run.look()


def test_an_error_in_drawing_comes_as_itself(shapes, tmp_path, card, monkeypatch):
    call = Batches.__call__

    def broken(batches, step, map=map):
        if step == 4:
            raise ValueError("picture 7 has values that are not finite")
        return call(batches, step, map)

    monkeypatch.setattr(Batches, "__call__", broken)
    with pytest.raises(ValueError, match="^picture 7 has values that are not finite"):
        run_to_the_end(shapes, tmp_path, EVERY_THIRD, device="gpu")
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_no_thread_on_the_cpu(shapes, tmp_path, monkeypatch):
    def look_around(batches, step, map=map, call=Batches.__call__):
        assert threading.current_thread() is threading.main_thread()
        return call(batches, step, map)

    monkeypatch.setattr(Batches, "__call__", look_around)
    run_to_the_end(shapes, tmp_path, replace(SMALL, steps=2))
