"""The training loop: what it logs, keeps, evaluates, and how it stops."""

import json
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from runs import SMALL, contents, run_to_the_end, some, take_step, without_timing

from miniclip import load
from miniclip.backend import OutOfMemory
from miniclip.checkpoints import read_arrays
from miniclip.data import Evaluation
from miniclip.gradcheck.contract import same_bits
from miniclip.init import MODELS
from miniclip.training import Phases, Run, TrainConfig, TrainingDiverged, loop, run, run_folder, train
from miniclip.tree import flatten

TINY_VIT = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"width": 64, "heads": 2, "layers": 1},
}


@pytest.mark.parametrize("model, steps", [("resnet-micro", 25), ("vit-tiny", 70)])
def test_eight_pairs_are_learned_by_heart(shapes, tmp_path, monkeypatch, model, steps):
    monkeypatch.setitem(MODELS, "vit-tiny", TINY_VIT)
    eight = {"batch_size": 8, "micro_batch": 8, "augment_strength": 0.0, "plain_names": 1.0, "ema_decay": 0.0}
    config = TrainConfig(model, steps, **eight, learning_rate=1e-3, warmup=10, vocab_size=700, log_every=1)
    data = some(shapes[0], 8)
    evaluation = Evaluation("eight", data.pictures, data.concept, [texts[0] for texts in data.captions])
    _, rows = train(data, config, [evaluation], tmp_path, threads=1, progress=False)
    assert rows[0]["loss"] > 0.5 * math.log(8)
    assert rows[-2]["loss"] < 1e-3
    if model == "vit-tiny":  # a ResNet's running statistics settle later
        assert rows[-1]["eval/eight/top1"] == 1.0


# ------------------------------------------------------------------------------------------ breaking


@pytest.mark.parametrize("parameter", ["visual.layer2.0.conv2.weight", "ln_final.bias", "logit_scale"])
def test_a_broken_parameter_stops_the_run(shapes, tmp_path, parameter):
    run = Run(shapes[0], SMALL, tmp_path)
    for _ in range(3):
        take_step(run)
        if run.step == 2:
            run.checkpoint()
    before = contents(tmp_path)
    flatten(run.params.tree)[parameter].flat[0] = np.nan
    sentence = f"step 4: the loss is nan.* come from the parameter {parameter}. The last good checkpoint, of step 2, "
    with pytest.raises(TrainingDiverged, match=f"{sentence}is kept in .*lower learning rate"):
        take_step(run)
    assert run.step == 3 and contents(tmp_path) == before
    state, _ = read_arrays(tmp_path / "last.safetensors")
    assert state["count"] == 2 and all(np.isfinite(state[name]).all() for name in state)


@pytest.mark.parametrize(
    "rate, threads, sentence",
    [
        (1e25, 2, "step 2: the loss is nan, .* come from visual.conv2 "),
        (1e39, 1, "step 1: a learning rate of 1e[+]39 makes "),
    ],
)
def test_a_learning_rate_that_is_too_high_stops_the_run(shapes, tmp_path, rate, sentence, threads):
    """It stops with one sentence and no warnings, and what can be resumed from is finite."""
    config = replace(SMALL, learning_rate=rate, checkpoint_every=1, warmup=0)
    with pytest.raises(TrainingDiverged, match=f"^{sentence}.* is kept in .*; try a lower learning rate.$"):
        run_to_the_end(shapes, tmp_path, config, threads=threads)
    assert contents(tmp_path).keys() == {"last.safetensors", "log.jsonl"}
    state, _ = read_arrays(tmp_path / "last.safetensors")
    assert all(np.isfinite(state[name]).all() for name in state)
    Run(shapes[0], config, tmp_path, resume=True)
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        assert np.isfinite(json.loads(line)["loss"])


@pytest.mark.parametrize("micro_batch, smaller", [(3, 1), (32, 4), (1, 1)])
def test_the_machines_memory_runs_out(shapes, tmp_path, monkeypatch, micro_batch, smaller):
    """Half an exabyte for a step: one sentence, with a micro-batch that is smaller than the batch of 8."""
    monkeypatch.setattr(run, "loss_and_gradient", lambda *_: np.empty(1 << 56))
    said = f"Here, a batch of 8 in micro-batches of {min(micro_batch, 8)} did not fit: try --micro-batch {smaller} "
    with pytest.raises(
        OutOfMemory, match=f"^the machine's memory ran out .Unable to allocate .*{said}with --recompute"
    ):
        run_to_the_end(shapes, tmp_path, replace(SMALL, micro_batch=micro_batch))


@pytest.mark.double
def test_a_cards_memory_runs_out(shapes, tmp_path, card):
    card.memory = 1 << 22
    with pytest.raises(OutOfMemory, match="^the graphics card's memory ran out: it has 0.0 GiB.* --micro-batch 1 "):
        run_to_the_end(shapes, tmp_path, device="gpu")


# ------------------------------------------------------------------------------------------ log and result


def test_the_log_says_how_it_went(once):
    rows = [row for row in once[1] if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert {"loss", "lr", "logit_scale", "tau", "d_logit_scale", "grad_norm", "examples_per_second"} <= row.keys()
        assert row["tau"] == pytest.approx(math.exp(-row["logit_scale"]))
        assert row["examples_per_second"] > 0
    assert rows[0]["lr"] == pytest.approx(1e-3) and rows[1]["lr"] == pytest.approx(2e-3)
    assert rows[0]["loss"] == pytest.approx(math.log(8), rel=0.5)


def test_evaluations_come_when_they_are_due(shapes, tmp_path, capsys):
    few = shapes[1][0]
    few = Evaluation("a few", few.pictures[:5], few.answer[:5], few.names)
    config = replace(SMALL, steps=5, evaluate_every=2, log_every=3)
    rows = run_to_the_end(shapes, tmp_path, config, evaluations=[few])
    rows = [row for row in rows if "warning" not in row]
    assert [(row["step"], "loss" in row) for row in rows] == [(2, False), (3, True), (4, False), (5, True), (5, False)]
    scores = ("n", "choices", "chance", "top1", "top5", "ensemble_top1", "ensemble_top5")
    assert rows[0].keys() == {"step"} | {f"eval/a few/{key}" for key in scores}
    assert "step 4: a few: top-1" in capsys.readouterr().out


def test_what_is_kept_is_the_average_and_can_be_loaded(shapes, once):
    clip = load(once[0])
    state, _ = read_arrays(once[0] / "last.safetensors")
    kept = np.concatenate([leaf.ravel() for leaf in flatten(clip.params).values()])
    assert same_bits(kept, state["average"]) and not same_bits(kept, state["params"])
    assert clip.about["step"] == SMALL.steps and TrainConfig.from_json(clip.about["config"]) == SMALL
    features = clip.encode_image(shapes[0].pictures[:4])
    assert features.shape == (4, 128) and np.allclose((features * features).sum(1), 1, atol=1e-5)
    assert clip.encode_text(["a small red circle"]).shape == (1, 128)


@pytest.mark.parametrize("step, kept", [(2, [1, 2]), (0, [])])
def test_a_torn_log_is_cut_to_whole_lines(tmp_path, step, kept):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    log = run_folder.Log(path, step)
    log.add({"step": step + 1, "loss": 0.5})
    expected = [*({"step": n} for n in kept), {"step": step + 1, "loss": 0.5}]
    assert log.rows == expected == [json.loads(line) for line in path.read_text().splitlines()]
    assert contents(tmp_path).keys() == {"log.jsonl"}


# ------------------------------------------------------------------------------------------ where the time goes


def test_phases_add_up(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    phase = Phases()
    for name, seconds in (("input", 2), ("AdamW", 5), ("input", 1)):
        with phase(name):
            now[0] += seconds
    with pytest.raises(KeyError), phase("log"):  # an error leaves its phase
        now[0] += 4
        raise KeyError
    now[0] += 8
    assert phase.seconds == {"input": 3, "AdamW": 5, "log": 4}
    rows = [line.split() for line in str(phase).splitlines()]
    assert [(row[0], row[-3], row[-1]) for row in rows] == [
        ("AdamW", "5.00", "25.0%"),
        ("log", "4.00", "20.0%"),
        ("input", "3.00", "15.0%"),
        ("the", "8.00", "40.0%"),  # the rest
        ("together", "20.00", "100.0%"),
    ]


def test_a_run_that_is_watched_is_the_same_run(shapes, once, tmp_path):
    phases, started = Phases(), time.perf_counter()
    rows = run_to_the_end(shapes, tmp_path, phases=phases)
    assert without_timing(rows) == without_timing(once[1])
    names = {"getting ready", "input", "forward and backward", "AdamW", "log", "evaluation", "checkpoint"}
    assert phases.seconds.keys() == names
    assert sum(phases.seconds.values()) <= time.perf_counter() - started


@pytest.mark.double
def test_on_a_card_every_phase_waits_for_it(shapes, tmp_path, card, monkeypatch):
    monkeypatch.setitem(MODELS, SMALL.model, TINY_VIT)  # the double is slow
    with card.counting() as counts:
        run_to_the_end(shapes, tmp_path, replace(SMALL, steps=1, batch_size=2), device="gpu", phases=Phases())
    waits = [wait for wait in counts.syncs if wait.startswith("loop.py:") and "Stream.synchronize" in wait]
    assert len(waits) >= 4  # input, forward and backward, AdamW, the log


def test_a_model_that_learned_nothing_is_told_of(shapes, tmp_path):
    """Where all pictures stay alike, the loss is ln N; where something is learned, there is no such row."""
    rows = run_to_the_end(shapes, tmp_path / "stuck", replace(SMALL, learning_rate=1e-9, augment_strength=0.0))
    assert rows[-1]["step"] == 6 and "ln 8 = 2.079" in rows[-1]["warning"] and "learned nothing" in rows[-1]["warning"]
    learned = replace(SMALL, steps=30, batch_size=4, micro_batch=4, augment_strength=0.0, mix=0.0, learning_rate=1e-3)
    eight = some(shapes[0], 8), []
    assert not any("warning" in row for row in run_to_the_end(eight, tmp_path / "learned", learned))
