"""The same bits: on any number of threads, and however often a run was killed and resumed."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from test_loop import SMALL, contents, once, run_to_the_end, shapes, without_timing  # noqa: F401

from miniclip.checkpoints.checkpoint import read_arrays, write_arrays
from miniclip.data.dataset import PictureSet
from miniclip.training.loop import Run, fingerprint


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_matter(shapes, once, tmp_path, threads):
    rows = run_to_the_end(shapes, tmp_path, threads=threads)
    expected, log = contents(once[0]), once[1]
    assert without_timing(rows) == without_timing(log) and len(rows) == SMALL.steps
    assert contents(tmp_path).keys() == expected.keys() == {"last.safetensors", "model.safetensors", "log.jsonl"}
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / name).read_bytes() == expected[name]


def test_another_seed_is_another_run(shapes, once, tmp_path):
    rows = run_to_the_end(shapes, tmp_path, replace(SMALL, seed=1, steps=1))
    assert rows[0]["loss"] != once[1][0]["loss"]


def test_recomputing_gives_the_same_run(shapes, once, tmp_path):
    rows = run_to_the_end(shapes, tmp_path, replace(SMALL, recompute=True))
    assert without_timing(rows) == without_timing(once[1])


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the loop may catch it."""


@pytest.mark.parametrize("moments", [[0], [3, 0, 1], [5]])
def test_a_run_that_was_broken_off_ends_in_the_same_bits(shapes, once, tmp_path, monkeypatch, moments):
    """Broken off after so many steps, the first time, the second, …; then left alone."""
    advance = Run.advance
    for moment in moments:
        left = iter(range(moment))

        def until_the_moment(run, map):
            if next(left, None) is None:
                raise Killed
            return advance(run, map)

        monkeypatch.setattr(Run, "advance", until_the_moment)
        with pytest.raises(Killed):
            run_to_the_end(shapes, tmp_path, resume=True)
    monkeypatch.undo()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 1, "loss": 0.')  # a line that the kill cut short
    rows = run_to_the_end(shapes, tmp_path, resume=True, threads=1)
    assert without_timing(rows) == without_timing(once[1])
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == rows
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / name).read_bytes() == (once[0] / name).read_bytes()


CHILD = """
import os, pathlib, signal, sys
from miniclip.data.shapes import shapes_data
from miniclip.training.config import TrainConfig
from miniclip.training.loop import train
out, deadly, recipe = sys.argv[1], int(sys.argv[2]), TrainConfig.from_json(eval(sys.argv[3]))
touched = 0

def watch(event, arguments):
    # Every opening, renaming and removing of one of the run's files counts; at the deadly one, die.
    global touched
    if event in ("open", "os.rename", "os.remove") and str(arguments[0]).startswith(out):
        touched += 1
        if touched == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
train(shapes_data(pictures=240)[0], recipe, out=out, threads=2, resume=True, progress=False)
"""


def child(out, recipe, deadly=0):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out), str(deadly), repr(recipe.to_json())], stderr=subprocess.PIPE
    )


@pytest.mark.slow
def test_sigkill_at_every_touch_of_a_file(shapes, once, tmp_path):
    """Killed as it opens or renames its 2nd file, and then, going on, its 5th, its 8th, …"""
    killed = 0
    for deadly in range(2, 200, 3):
        process = child(tmp_path, SMALL, deadly)
        errors = process.communicate(timeout=120)[1]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
        killed += 1
        if (tmp_path / "last.safetensors").exists():
            read_arrays(tmp_path / "last.safetensors")  # whole, whatever happened
    assert killed >= 4 and process.returncode == 0
    assert (tmp_path / "model.safetensors").read_bytes() == (once[0] / "model.safetensors").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert without_timing(rows) == without_timing(once[1])
    assert contents(tmp_path).keys() == contents(once[0]).keys()  # no temporary file is left


@pytest.mark.slow
def test_sigkill_at_random_moments(shapes, tmp_path):
    recipe, rng = replace(SMALL, steps=16, checkpoint_every=1), np.random.default_rng(0)
    start = time.perf_counter()
    run_to_the_end(shapes, tmp_path / "once", recipe)
    a_step = (time.perf_counter() - start) / recipe.steps
    out, killed, reached = tmp_path / "killed", 0, []
    last = out / "last.safetensors"
    while killed < 6:
        before = last.stat().st_mtime_ns if last.exists() else None
        process = child(out, recipe)
        while process.poll() is None and (last.stat().st_mtime_ns if last.exists() else None) == before:
            time.sleep(0.001)  # until it gets anywhere at all
        time.sleep(rng.uniform(0, 3 * a_step))
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
        killed += 1
        reached.append(int(read_arrays(last)[0]["count"]))
    assert killed >= 3 and reached == sorted(reached) and reached[-1] > 0
    process = child(out, recipe)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors.decode()
    for name in ("model.safetensors", "last.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


# ------------------------------------------------------------------------------------------ going on, or not


def test_a_folder_that_holds_a_run_is_not_overwritten(shapes, once):
    before = contents(once[0])
    with pytest.raises(ValueError, match="holds a run already: go on with --resume, or choose another --out"):
        run_to_the_end(shapes, once[0])
    assert contents(once[0]) == before


def test_resuming_a_run_that_is_done_changes_nothing(shapes, once):
    before = contents(once[0])
    assert without_timing(run_to_the_end(shapes, once[0], resume=True)) == without_timing(once[1])
    assert contents(once[0]) == before


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"steps": 7}, "steps differ"),
        ({"learning_rate": 1e-3, "seed": 9}, "learning_rate, seed differ"),
        ({"model": "vit-tiny"}, "model differ"),
    ],
)
def test_another_recipe_does_not_go_on(shapes, once, changes, named):
    before = contents(once[0])
    with pytest.raises(ValueError, match=f"is of another run: {named}.*Resume with what it was started with"):
        run_to_the_end(shapes, once[0], replace(SMALL, **changes), resume=True)
    assert contents(once[0]) == before


def test_other_data_do_not_go_on(shapes, once):
    data = shapes[0]
    pictures = data.pictures.copy()
    pictures[100, 5, 5, 0] ^= 1
    captions = [[*texts, texts[0] + "!"] for texts in data.captions]
    for other in (
        PictureSet("shapes", pictures, data.concept, data.captions),
        PictureSet("shapes", data.pictures, data.concept, captions),
    ):
        assert fingerprint(other) != fingerprint(data)
        with pytest.raises(ValueError, match="is of another run: the training data differ"):
            run_to_the_end((other,), once[0], resume=True)


def test_a_damaged_checkpoint_is_named_and_kept(shapes, once, tmp_path):
    whole = (once[0] / "last.safetensors").read_bytes()
    last = tmp_path / "last.safetensors"
    for damaged in (whole[: len(whole) // 2], b"", whole[:-1] + bytes([whole[-1] ^ 1]), b"\x80\x04.", whole[:8] * 9):
        last.write_bytes(damaged)
        with pytest.raises(ValueError, match="last.safetensors is .*no checkpoint"):
            run_to_the_end(shapes, tmp_path, resume=True)
        assert contents(tmp_path) == {"last.safetensors": damaged}
    for other in ({}, {"recipe": "a sentence"}, {"recipe": None, "data": 3}):
        write_arrays(last, {"weight": np.zeros(3)}, other)
        with pytest.raises(ValueError, match="last.safetensors is (of another run|no checkpoint of a training run)"):
            run_to_the_end(shapes, tmp_path, resume=True)


def test_settings_that_cannot_be_leave_no_run_behind(shapes, tmp_path):
    for options in ({"threads": 0}, {"device": "tpu"}):
        with pytest.raises(ValueError, match="threads is 0; it must be at least 1|device is 'tpu'"):
            run_to_the_end(shapes, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_way_is_named(shapes, tmp_path):
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises((ValueError, OSError), match="file"):
            run_to_the_end(shapes, out)
    assert (tmp_path / "file").read_text() == "precious"
