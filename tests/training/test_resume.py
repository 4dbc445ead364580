"""The same bits: on any number of threads, and however often a run was killed and resumed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from runs import SMALL, contents, run_to_the_end, take_step, without_timing

from miniclip.checkpoints import read_arrays, write_arrays
from miniclip.data import PictureSet
from miniclip.training import Run, TrainConfig
from miniclip.training.batches import fingerprint


def assert_the_same_run(out, rows, once):
    assert without_timing(rows) == without_timing(once[1])
    found, expected = contents(out), contents(once[0])
    assert found.keys() == expected.keys() == {"last.safetensors", "model.safetensors", "log.jsonl"}
    assert all(found[name] == expected[name] for name in ("model.safetensors", "last.safetensors"))
    assert [json.loads(line) for line in found["log.jsonl"].decode().splitlines()] == rows


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_matter(shapes, once, tmp_path, threads):
    assert_the_same_run(tmp_path, run_to_the_end(shapes, tmp_path, threads=threads), once)


def test_recomputing_gives_the_same_numbers_and_another_seed_others(shapes, once, tmp_path):
    rows = run_to_the_end(shapes, tmp_path / "recomputed", replace(SMALL, recompute=True))
    assert without_timing(rows) == without_timing(once[1])
    rows = run_to_the_end(shapes, tmp_path / "other", replace(SMALL, seed=1, steps=1))
    assert rows[0]["loss"] != once[1][0]["loss"]


@pytest.mark.parametrize("more", [{"description_weight": 0.5}, {"optimizer": "muon"}])
def test_other_runs_too_have_the_same_bits_on_any_number_of_threads(shapes, once, tmp_path, more):
    words = [[text.split()[0] for text in texts] for texts in shapes[0].captions]
    described, config = (replace(shapes[0], descriptions=words),), replace(SMALL, **more)
    first, again = (run_to_the_end(described, tmp_path / str(k), config, threads=k) for k in (1, 3))
    assert without_timing(first) == without_timing(again)
    assert contents(tmp_path / "1") == contents(tmp_path / "3") | {"log.jsonl": contents(tmp_path / "1")["log.jsonl"]}
    assert first[2]["loss"] != once[1][2]["loss"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the loop may catch it."""


@pytest.mark.parametrize("moments", [[0], [3, 0, 1], [5]])
def test_a_run_that_was_broken_off_ends_in_the_same_bits(shapes, once, tmp_path, monkeypatch, moments):
    """Broken off after so many steps, the first time, the second, …; then left alone."""
    for moment in moments:
        left = iter(range(moment))

        def until_the_moment(run, map, draw=Run.draw, left=left):
            if next(left, None) is None:
                raise Killed
            return draw(run, map)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Run, "draw", until_the_moment)
            run_to_the_end(shapes, tmp_path, resume=True)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 1, "loss": 0.')  # a line that the kill cut short
    assert_the_same_run(tmp_path, run_to_the_end(shapes, tmp_path, resume=True, threads=1), once)


CHILD = """
import os, signal, sys
from miniclip.data import shapes_data
from miniclip.training import TrainConfig, train
out, deadly, config = sys.argv[1], int(sys.argv[2]), TrainConfig.from_json(eval(sys.argv[3]))
touched = 0

def watch(event, arguments):
    # Every opening, renaming and removing of one of the run's files counts; at the deadly one, die.
    global touched
    if event in ("open", "os.rename", "os.remove") and str(arguments[0]).startswith(out):
        touched += 1
        if touched == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
train(shapes_data(pictures=240)[0], config, out=out, threads=2, resume=True, progress=False)
"""


def child(out, config, deadly=0):
    words = [sys.executable, "-c", CHILD, str(out), str(deadly), repr(config.to_json())]
    return subprocess.Popen(words, stderr=subprocess.PIPE)


def test_sigkill_in_a_process_of_its_own(shapes, once, tmp_path):
    """Killed as it writes its second checkpoint, and then left alone."""
    process = child(tmp_path, SMALL, 8)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert read_arrays(tmp_path / "last.safetensors")[0]["count"] < SMALL.steps
    assert_the_same_run(tmp_path, run_to_the_end(shapes, tmp_path, resume=True), once)


@pytest.mark.slow
def test_sigkill_at_every_touch_of_a_file(once, tmp_path):
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
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert_the_same_run(tmp_path, rows, once)  # and no temporary file is left


@pytest.mark.slow
def test_sigkill_at_random_moments(shapes, tmp_path):
    config, rng = replace(SMALL, steps=16, checkpoint_every=1), np.random.default_rng(0)
    start = time.perf_counter()
    run_to_the_end(shapes, tmp_path / "once", config)
    a_step = (time.perf_counter() - start) / config.steps
    out, killed, reached = tmp_path / "killed", 0, []
    last = out / "last.safetensors"
    while killed < 6:
        before = last.stat().st_mtime_ns if last.exists() else None
        process = child(out, config)
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
    process = child(out, config)
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
def test_another_configuration_does_not_go_on(shapes, once, changes, named):
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
    for other in ({}, {"config": "a sentence"}, {"config": None, "data": 3}, {"config": {"steps": 6}}):
        write_arrays(last, {"weight": np.zeros(3)}, other)
        with pytest.raises(ValueError, match="last.safetensors is no checkpoint of a training run"):
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


FORMER = {  # what the former version wrote beside the arrays of a run on shapes, at 20 steps
    "recipe": {
        "model": "resnet-micro", "steps": 20, "batch": 128, "shard": 64, "learning_rate": 0.002, "warmup": 50,
        "weight_decay": 1.0, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-06, "clip": 1.0, "average": 0.99,
        "strength": 0.0, "augmentation": {}, "mix": 0.0, "plain_names": 0.5, "by_picture": True, "vocabulary": 700,
        "context": 24, "evaluate_every": 0, "checkpoint_every": 500, "log_every": 10, "recompute": False,
        "precision": "float32", "seed": 0,
    },
    "data": "20b1d79f905c197f7a3f3369242f7f8229386ff1182469307906f4f8f6c3cadd",
}  # fmt: skip


def test_a_run_of_the_former_version_goes_on(shapes, tmp_path):
    recipe = FORMER["recipe"] | {"steps": 4, "batch": 8, "shard": 4, "checkpoint_every": 2}
    config = TrainConfig.from_json(recipe)
    expected = run_to_the_end(shapes, tmp_path / "once", config)
    run = Run(shapes[0], config, tmp_path / "former")
    take_step(run)
    take_step(run)
    run.checkpoint()
    run.folder.close()
    state, identity = read_arrays(tmp_path / "former" / "last.safetensors")
    write_arrays(tmp_path / "former" / "last.safetensors", state, FORMER | {"recipe": recipe, "data": identity["data"]})
    rows = run_to_the_end(shapes, tmp_path / "former", config, resume=True)
    assert without_timing(rows) == without_timing(expected)
    found, expected = contents(tmp_path / "former"), contents(tmp_path / "once")
    assert all(found[name] == expected[name] for name in ("model.safetensors", "last.safetensors"))
    write_arrays(tmp_path / "former" / "last.safetensors", state, FORMER)
    with pytest.raises(ValueError, match="is of another run: steps, batch_size, micro_batch, checkpoint_every differ"):
        run_to_the_end(shapes, tmp_path / "former", config, resume=True)


# ------------------------------------------------------------------------------------------ others in the folder


def test_two_runs_do_not_write_into_one_folder(shapes, tmp_path):
    run = Run(shapes[0], SMALL, tmp_path)
    before = contents(tmp_path)
    for resume in (False, True):
        with pytest.raises(ValueError, match="another run is writing into .*choose another --out"):
            run_to_the_end(shapes, tmp_path, resume=resume)
    assert contents(tmp_path) == before
    run.folder.close()
    assert run_to_the_end(shapes, tmp_path, resume=True)[-1]["step"] == 6


def test_a_folder_that_was_refused_is_free_again(shapes, tmp_path):
    run_to_the_end(shapes, tmp_path)
    for _ in "12":
        with pytest.raises(ValueError, match="holds a run already"):
            run_to_the_end(shapes, tmp_path)
    (tmp_path / "last.safetensors").unlink()
    before = contents(tmp_path)
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds a model and no run to go on with"):
            run_to_the_end(shapes, tmp_path, resume=resume)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("line", ["3", "[1]", "{}", '{"step": null}', '{"step": true}', "nonsense", "[" * 100_000])
def test_a_line_of_the_log_that_is_none_is_named(shapes, once, tmp_path, line):
    shutil.copytree(once[0], tmp_path, dirs_exist_ok=True)
    log = tmp_path / "log.jsonl"
    rows = log.read_text().splitlines()
    log.write_text("\n".join([rows[0], line, *rows[1:]]) + "\n")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"log.jsonl, line 2, is no row of a log"):
        run_to_the_end(shapes, tmp_path, resume=True)
    assert contents(tmp_path) == before
