"""Real ranks, started by mpirun: the same files, whoever is killed, and nobody waits for ever."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import listen_to_ctrl_c
from runs import contents, without_timing

pytest.importorskip("mpi4py")
MPIRUN = Path(sys.executable).with_name("mpirun")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MPIRUN.exists(), reason="there is no mpirun beside this Python")]
BATCH = "--batch-size", 4, "--micro-batch", 1  # four micro-batches


def begin(ranks, *words, **environment):
    """`python -m miniclip` on so many ranks."""
    words = [str(MPIRUN), "-n", str(ranks), sys.executable, "-m", "miniclip", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(words, env=os.environ | environment, preexec_fn=listen_to_ctrl_c, **pipes)


def train(ranks, folder, out, *more):
    return begin(ranks, "train", "--data", folder, "--out", out, "--preset", "shapes", *BATCH, "--threads", 1, *more)


def finish(process, seconds=200):
    """(exit status, what it printed, its errors)."""
    try:
        printed, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, printed, errors


def rows(out):
    return without_timing(map(json.loads, (out / "log.jsonl").read_text().splitlines()))


@pytest.fixture(scope="module")
def once(photos, tmp_path_factory):
    """The folder of a run without mpirun."""
    out = tmp_path_factory.mktemp("once") / "run"
    words = "train", "--data", photos, "--out", out, "--preset", "shapes", *BATCH, "--steps", 8
    done = subprocess.run([sys.executable, "-m", "miniclip", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_same_files_on_any_number_of_ranks(photos, tmp_path, once, ranks):
    out = tmp_path / "run"
    status, printed, errors = finish(train(ranks, photos, out, "--steps", 8))
    assert status == 0, errors
    assert printed.count("Training resnet-micro") == 1 and f"on {ranks} ranks" in printed
    found, expected = contents(out), contents(once)
    assert found.keys() == expected.keys() and rows(out) == rows(once)
    assert all(found[name] == expected[name] for name in ("last.safetensors", "model.safetensors"))


def processes_of(out):
    """The processes of the ranks that train into a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:  # it has ended
            continue
        if words[0] == sys.executable and str(out) in words:
            found.append(int(path.parent.name))
    return sorted(found)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_rank_that_is_killed_ends_all_and_the_run_goes_on_with_others(photos, tmp_path):
    out, run = tmp_path / "run", ("--steps", 60, "--checkpoint-every", 5)
    process = train(2, photos, out, *run)
    deadline = time.monotonic() + 200
    log = out / "log.jsonl"
    while time.monotonic() < deadline and not (log.exists() and log.stat().st_size):  # ten steps, and two checkpoints
        time.sleep(0.05)
    try:
        os.kill(processes_of(out)[-1], signal.SIGKILL)
    finally:
        status = finish(process, 60)[0]
    assert status != 0 and not (out / "model.safetensors").exists()
    status, _, errors = finish(train(4, photos, out, *run, "--resume"))
    assert status == 0, errors
    other = tmp_path / "other"
    status, _, errors = finish(train(1, photos, other, *run))
    assert status == 0, errors
    assert contents(out)["model.safetensors"] == contents(other)["model.safetensors"]


def test_ctrl_c_ends_all(photos, tmp_path):
    out = tmp_path / "run"
    process = train(2, photos, out, "--steps", 5000)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (out / "log.jsonl").exists():
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert finish(process, 60)[0] != 0
    deadline = time.monotonic() + 20
    while processes_of(out) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes_of(out)


def test_what_cannot_be_is_said_once(photos, tmp_path):
    status, _, errors = finish(train(3, photos, tmp_path / "run", "--steps", 2))
    assert status == 2
    assert (
        errors.count("miniclip: a batch of 4 is 4 micro-batches of at most 1, which cannot be dealt evenly to 3") == 1
    )
    assert "Traceback" not in errors and "On rank" not in errors


def test_a_rank_that_fails_alone_ends_all_and_says_which(photos, tmp_path):
    """Rank 1 finds no folder of pictures."""
    script = tmp_path / "fails.py"
    script.write_text(
        "import os, sys\n"
        "from miniclip import __main__ as program\n"
        "rank = int(os.environ['PMI_RANK'])\n"
        "sys.argv[3] += '-gone' * rank\n"
        "sys.exit(program.main_of_rank(rank))\n"
    )
    words = "train", "--data", photos, "--out", tmp_path / "run", "--preset", "shapes", *BATCH, "--steps", 2
    process = subprocess.Popen(
        [str(MPIRUN), "-n", "2", sys.executable, str(script), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    status, _, errors = finish(process)
    assert status == 2
    assert "On rank 1: miniclip: " in errors and "-gone" in errors and "Traceback" not in errors


def test_a_launcher_of_another_mpi_is_refused(photos, tmp_path):
    environment = os.environ | {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    words = "train", "--data", photos, "--out", tmp_path / "run", "--preset", "shapes", *BATCH, "--steps", 2
    words = [sys.executable, "-m", "miniclip", *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert "miniclip: 2 processes were started together, but mpi4py sees 1: the launcher is of another" in done.stderr
