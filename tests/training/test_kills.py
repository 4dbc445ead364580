"""SIGKILL at random moments, also of two runs that are started in one folder: nothing is lost."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from runs import contents, without_timing

import miniclip
from miniclip.checkpoints import read_arrays

pytestmark = pytest.mark.slow


def begin(folder, out, *more):
    """Start training in a process of its own."""
    words = "train", "--data", folder, "--out", out, "--preset", "shapes", "--steps", 40, "--checkpoint-every", 3
    words = [sys.executable, "-m", "miniclip", *map(str, words), "--threads", "1", *more]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def rows(out):
    return without_timing(map(json.loads, (out / "log.jsonl").read_text().splitlines()))


def test_nothing_is_lost(photos, tmp_path):
    """Killed while one run, and while two runs, are at it in a folder."""
    once, rng, refused, killed = tmp_path / "once", np.random.default_rng(0), 0, 0
    start = time.perf_counter()
    errors = begin(photos, once).communicate(timeout=120)[1]
    seconds = time.perf_counter() - start
    expected = contents(once)
    assert "model.safetensors" in expected, errors
    for folder in range(3):
        out, reached = tmp_path / str(folder), [0]
        for two in (False, True):
            runs = [begin(photos, out, "--resume") for _ in range(1 + two)]
            time.sleep(rng.uniform(0.3, 0.9) * seconds)
            for run in runs:
                run.kill()
                errors = run.communicate(timeout=120)[1]
                killed += run.returncode < 0
                if run.returncode > 0:
                    refused += 1
                    assert run.returncode == 2 and f"miniclip: another run is writing into {out}" in errors
            if (out / "last.safetensors").exists():
                reached.append(int(read_arrays(out / "last.safetensors")[0]["count"]))
            if (out / "model.safetensors").exists():
                miniclip.load(out)
        assert reached == sorted(reached)
        last = begin(photos, out, "--resume")
        errors = last.communicate(timeout=120)[1]
        assert last.returncode == 0, errors
        found = contents(out)
        assert found.keys() == expected.keys() and rows(out) == rows(once)  # each step once, and nothing else is left
        assert all(found[name] == expected[name] for name in ("last.safetensors", "model.safetensors"))
    assert killed >= 3 and refused >= 1
