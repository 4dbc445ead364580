"""Training on a double of a graphics card: what a run waits for, what it finds, and how it goes on."""

import json
import threading
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from commands import refused
from cupy_double import cupy_double
from runs import SMALL, run_to_the_end, some, without_timing

from miniclip.checkpoints import read_arrays
from miniclip.gpu import PRECISIONS, GradScaler
from miniclip.init import MODELS
from miniclip.training import Batches, Run, TrainingDiverged, run, tiled_clip_loss
from miniclip.tree import flatten

pytestmark = pytest.mark.double
EVERY_THIRD = replace(SMALL, log_every=3, checkpoint_every=6)
VISION = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
SMALLEST = {"embed_dim": 32, "text_cfg": {"width": 16, "heads": 2, "layers": 1}, "vision_cfg": VISION}


@pytest.fixture(autouse=True)
def smallest(monkeypatch):
    """The double is slow: there is a smaller model meanwhile, under the name of one that there is."""
    monkeypatch.setitem(MODELS, SMALL.model, SMALLEST)


@pytest.fixture
def watched(monkeypatch, card):
    """[(method, steps done, waits of the main thread for the card)] of all that a run does in its steps."""
    seen = []
    for name in ("draw", "differentiate", "update", "look"):

        def method(run, *args, original=getattr(Run, name), name=name):
            with card.counting() as counts:
                result = original(run, *args)
            seen.append((name, run.step, len([wait for wait in counts.syncs if "in the thread" not in wait])))
            return result

        monkeypatch.setattr(Run, name, method)
    return seen


def no_thread_is_left():
    return not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_card_is_read_only_where_the_log_is_due(shapes, tmp_path, card, watched, optimizer):
    with card.counting() as counts:
        run_to_the_end(shapes, tmp_path, replace(EVERY_THIRD, optimizer=optimizer), device="gpu", threads=2)
    assert [(step, waits) for name, step, waits in watched if name == "look"] == [(3, 1), (6, 1)]
    steps = [(name, waits) for name, _, waits in watched if name != "look"]
    assert steps == [("draw", 0), ("differentiate", 0), ("update", 0)] * 6
    events = [wait for wait in counts.syncs if "Event" in wait]
    assert len(events) == 6 and all("in the thread prefetch" in wait for wait in events)
    assert sum(copy.startswith("prefetch.py:") for copy in counts.uploads) == 6


@pytest.mark.parametrize("model", ["smallest", "resnet-micro"])
def test_it_is_the_run_of_the_cpu(shapes, tmp_path, card, monkeypatch, model):
    """Up to the order of sums: the same batches, the same numbers in the log at the same steps."""
    config = EVERY_THIRD
    if model == "resnet-micro":
        monkeypatch.undo()
        config = replace(SMALL, steps=2, batch_size=4, micro_batch=2, log_every=2)
    there = run_to_the_end(shapes, tmp_path / "gpu", config, device="gpu")
    here = run_to_the_end(shapes, tmp_path / "cpu", config)
    for a, b in zip(without_timing(there), without_timing(here), strict=True):
        assert a.keys() == b.keys() and a["step"] == b["step"]
        # the sentence of a run that has learned nothing holds its loss
        assert all(key == "warning" or a[key] == pytest.approx(b[key], rel=1e-3) for key in a)
    assert [json.loads(line) for line in (tmp_path / "gpu/log.jsonl").read_text().splitlines()] == there
    a, b = (read_arrays(tmp_path / device / "last.safetensors")[0] for device in ("gpu", "cpu"))
    assert a.keys() == b.keys() and all(np.allclose(a[name], b[name], atol=1e-2) for name in a)


# ------------------------------------------------------------------------------------------ precisions

PLAIN = replace(SMALL, mix=0.0, augment_strength=0.0, plain_names=1.0, weight_decay=0.0, micro_batch=8)
EIGHT = replace(PLAIN, steps=20, learning_rate=1e-3, warmup=1, ema_decay=0.9, log_every=5, checkpoint_every=5)


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_run_learns_and_goes_on_to_the_same_bits(shapes, tmp_path, cupy, watched, monkeypatch, name):
    """In float16 the scale is far too large at first: these steps are left out, and the run outlives them."""
    data, config = (some(shapes[0], 8),), replace(EIGHT, precision=name)
    monkeypatch.setattr("miniclip.training.run.GradScaler", partial(GradScaler, scale=2.0**18))
    types, get, set_ = cupy._core._routines_linalg, cupy._core.get_compute_type, cupy._core.set_compute_type
    set_(np.float32, types.COMPUTE_TYPE_PEDANTIC)
    seen, scales, interrupted, update = [], [], [], Run.update

    def watch(run, *args):
        if run.step == 12 and run.out.name == "again" and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        before = run.params.vector.get()
        update(run, *args)
        seen.append(get(np.float32))
        scales.append((run.scaler and float(run.scaler.scale), bool((run.params.vector.get() == before).all())))

    monkeypatch.setattr(Run, "update", watch)
    expected = run_to_the_end(data, tmp_path / "once", config, device="gpu")
    assert sum(waits for name, _, waits in watched if name != "look") == 0
    assert seen == [types.COMPUTE_TYPE_TF32 if name == "tf32" else types.COMPUTE_TYPE_DEFAULT] * EIGHT.steps
    losses = [row["loss"] for row in expected]
    assert len(losses) == 4 and losses[3] < 0.85 * losses[0]
    if name == "float16":
        assert scales[0] == (2.0**17, True) and 8 < sum(not left_out for _, left_out in scales)
        for (before, _), (after, left_out) in pairwise(scales):
            assert after == (before / 2 if left_out else before)

    with pytest.raises(KeyboardInterrupt):
        run_to_the_end(data, tmp_path / "again", config, device="gpu")
    assert no_thread_is_left() and get(np.float32) == types.COMPUTE_TYPE_PEDANTIC
    rows = run_to_the_end(data, tmp_path / "again", config, device="gpu", resume=True)
    assert without_timing(rows) == without_timing(expected)
    for file in ("last.safetensors", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "once" / file).read_bytes()


def test_another_precision_is_another_run_of_about_the_same_numbers(shapes, tmp_path, card):
    short, losses = replace(EIGHT, steps=1, log_every=1), {}
    for name in PRECISIONS:
        rows = run_to_the_end(shapes, tmp_path / name, replace(short, precision=name), device="gpu")
        losses[name] = rows[0]["loss"]
    assert len(set(losses.values())) == 4
    assert all(loss == pytest.approx(losses["float32"], rel=0.05) for loss in losses.values())
    with pytest.raises(ValueError, match="is of another run: precision differ"):
        run_to_the_end(shapes, tmp_path / "tf32", short, device="gpu", resume=True)


def test_a_card_that_has_no_bfloat16(shapes, tmp_path):
    with cupy_double(capability="75"), pytest.raises(ValueError, match="'bfloat16' needs a graphics card of compute"):
        run_to_the_end(shapes, tmp_path / "out", replace(EIGHT, precision="bfloat16"), device="gpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", PRECISIONS[1:])
def test_on_the_processor_the_command_line_refuses(photos, tmp_path, capsys, name):
    options = "--preset", "shapes", "--steps", 1, "--precision", name, "--device", "cpu"
    said = refused(capsys, "train", "--data", photos, "--out", tmp_path / "out", *options)
    assert f"precision '{name}'" in said and "processor" in said and not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("rate", [1e25, 1e39])
def test_divergence_is_found_at_the_next_look_and_before_anything_is_kept(shapes, tmp_path, card, rate):
    config = replace(EVERY_THIRD, learning_rate=rate, warmup=0, checkpoint_every=3)
    kept = "The last good checkpoint, of step 0, is kept in .*; try a lower learning rate.$"
    with pytest.raises(TrainingDiverged, match=f"^step 2: the loss is nan, the gradient's norm nan. {kept}"):
        run_to_the_end(shapes, tmp_path, config, device="gpu")
    state, _ = read_arrays(tmp_path / "last.safetensors")
    assert state["count"] == 0 and all(np.isfinite(array).all() for array in state.values())
    assert (tmp_path / "log.jsonl").read_text() == ""


@pytest.mark.parametrize("steps, named", [(1, "step 1"), (3, "steps 1 to 3")])
def test_parameters_that_no_loss_betrays(shapes, tmp_path, card, steps, named):
    """A token that no caption has: its row is in no loss."""
    run = Run(shapes[0], SMALL, tmp_path, device="gpu")
    for _ in range(steps):
        micro_batches = run.draw()
        run.update(run.differentiate(micro_batches), micro_batches)
    unused = flatten(run.params.tree)["token_embedding.weight"]
    unused[unused.shape[0] - 3] = np.nan
    with pytest.raises(TrainingDiverged, match=f"^{named}: a learning rate of .* makes parameters that are not finite"):
        run.look()


def test_an_error_in_drawing_comes_as_itself(shapes, tmp_path, card, monkeypatch):
    def broken(batches, step, map=map, part=(0, 1), call=Batches.__call__):
        if step == 4:
            raise ValueError("picture 7 has values that are not finite")
        return call(batches, step, map)

    monkeypatch.setattr(Batches, "__call__", broken)
    with pytest.raises(ValueError, match="^picture 7 has values that are not finite"):
        run_to_the_end(shapes, tmp_path, EVERY_THIRD, device="gpu")
    assert no_thread_is_left()


def test_no_thread_on_the_cpu(shapes, tmp_path, monkeypatch):
    def look_around(batches, step, map=map, part=(0, 1), call=Batches.__call__):
        assert threading.current_thread() is threading.main_thread()
        return call(batches, step, map)

    monkeypatch.setattr(Batches, "__call__", look_around)
    run_to_the_end(shapes, tmp_path, replace(SMALL, steps=2))


def test_a_large_batch_is_trained_in_tiles(shapes, tmp_path, card, monkeypatch):
    losses, tiled = [], []
    monkeypatch.setattr(run, "tiled_clip_loss", lambda *a, **k: tiled.append(a) or tiled_clip_loss(*a, **k))
    for large in (9, 8):  # a batch of 8 is not large, and is
        monkeypatch.setattr(run, "LARGE", large)
        rows = run_to_the_end(shapes, tmp_path / str(large), replace(SMALL, steps=1), device="gpu")
        losses.append(rows[0]["loss"])
    assert len(tiled) == 1 and losses[0] == pytest.approx(losses[1], rel=1e-5)
