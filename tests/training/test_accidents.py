"""What goes wrong while a run writes: a full disk, no permission, files in the way. What was whole stays whole."""

import json
import os
from contextlib import contextmanager

import pytest
from commands import command
from runs import SMALL, contents, run_to_the_end, take_step

from miniclip.checkpoints import read_arrays
from miniclip.training import Run, run_folder

resource = pytest.importorskip("resource", reason="limits of a process are POSIX's.")


@contextmanager
def files_no_larger_than(size):
    """Meanwhile, writing more than so many bytes to a file fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def run(shapes, tmp_path):
    """A run after two steps, kept after the first of them."""
    run = Run(shapes[0], SMALL, tmp_path)
    for _ in range(2):
        take_step(run)
        if run.step == 1:
            run.checkpoint()
    yield run
    run.folder.close()


FULL = {
    "log.jsonl": (
        lambda run: run.folder.log.add({"step": 2, "loss": "1" * 200}),
        "could not be written .File too large.; .*/last.safetensors is whole: go on from there with --resume[.]$",
    ),
    "last.safetensors": (Run.checkpoint, "could not be written .File too large.; what was there before is whole[.]$"),
    "model.safetensors": (
        Run.save,
        "could not be written .File too large.; nothing was there before[.] .*/last.safetensors is whole: "
        "--resume writes the model again[.]$",
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk(shapes, once, tmp_path, run, name):
    """One sentence, which names the file and what is whole; with room again, the run ends in the same bits."""
    write, said = FULL[name]
    before = contents(tmp_path)
    with files_no_larger_than(100), pytest.raises(OSError, match=f"^{tmp_path / name} {said}"):
        write(run)
    after = contents(tmp_path)
    assert after.keys() == before.keys() and after["last.safetensors"] == before["last.safetensors"]
    run.folder.close()
    run_to_the_end(shapes, tmp_path, resume=True)
    found = contents(tmp_path)
    assert all(found[name] == contents(once[0])[name] for name in ("model.safetensors", "last.safetensors"))
    steps = [row["step"] for row in map(json.loads, found["log.jsonl"].decode().splitlines()) if "loss" in row]
    assert steps == [2, 3, 4, 5, 6]  # of this run the first was not logged


@pytest.mark.parametrize("name", FULL)
def test_no_permission(shapes, tmp_path, run, name, monkeypatch):
    write, _ = FULL[name]
    before = contents(tmp_path)

    def refuse(path, mode="r", *arguments, open=open, **options):
        if set(mode) & set("wax"):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, mode, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(OSError, match=f"^{tmp_path / name} could not be written .Permission denied.; .* whole"):
        write(run)
    assert contents(tmp_path) == before


def test_the_log_of_a_run_that_goes_on(shapes, tmp_path, run):
    run.folder.log.add({"step": 1, "note": "x" * 200})
    run.folder.close()
    before = contents(tmp_path)
    with (
        files_no_larger_than(100),
        pytest.raises(OSError, match="log.jsonl could not be written .*last.safetensors is"),
    ):
        Run(shapes[0], SMALL, tmp_path, resume=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("size, named", [(0, "last"), (100_000, "last")])
def test_a_disk_that_is_full_from_the_beginning(photos, tmp_path, capsys, size, named):
    out = tmp_path / "out"
    words = "train", "--data", photos, "--out", out, "--preset", "shapes", "--steps", 2
    with files_no_larger_than(size):
        assert command(*words) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        f"miniclip: {out}/{named}.safetensors could not be written (File too large); nothing was there before."
    ]
    assert contents(out) == {"log.jsonl": b""}
    assert command(*words) == 0  # and there is nothing in the way of another try


def test_a_disk_that_fills_up(photos, tmp_path, capsys):
    """As the model is written at the end: from the command line."""
    out = tmp_path / "out"
    words = "train", "--data", photos, "--out", out, "--preset", "shapes", "--steps", 2
    assert command(*words) == 0
    expected = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").unlink()
    capsys.readouterr()
    with files_no_larger_than(100_000):
        assert command(*words, "--resume") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"miniclip: {out}/model.safetensors could not be written (File too large); nothing was there"
    )
    assert last.endswith(f"{out}/last.safetensors is whole: --resume writes the model again.")
    read_arrays(out / "last.safetensors")
    assert command(*words, "--resume") == 0
    assert (out / "model.safetensors").read_bytes() == expected


# ------------------------------------------------------------------------------------------ in the way


@pytest.mark.parametrize("name", ["log.jsonl", "model.safetensors"])
def test_what_is_left_of_another_run_is_not_emptied(shapes, once, tmp_path, name):
    (tmp_path / name).write_bytes((once[0] / name).read_bytes())
    before = contents(tmp_path)
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds a (log|model) and no run to go on with: choose another --out"):
            run_to_the_end(shapes, tmp_path, resume=resume)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", run_folder.FILES)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_no_file_in_the_way(shapes, tmp_path, name, make):
    """A pipe is not waited for; and it is said before any step is taken."""
    make(tmp_path / name)
    for resume in (False, True):
        with pytest.raises(ValueError, match=f"{name} is no file, and is in the way of a run: choose another --out"):
            Run(shapes[0], SMALL, tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == [name]
