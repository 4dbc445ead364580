"""Each benchmark runs, at its smallest, and what it prints and writes makes sense."""

import importlib.util
import json
import re

import common
import cpu
import gpu
import gpu_measures
import gpu_parts
import gpu_worker
import numpy as np
import profile_step
import pytest
import scaling
import tars
import tricks

from miniclip.gpu import Prefetch

pytestmark = pytest.mark.slow
VIT = {
    "embed_dim": 8,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 16, "head_width": 8, "patch_size": 4},
    "text_cfg": {"context_length": 6, "vocab_size": 20, "width": 16, "heads": 2, "layers": 2},
}


def test_cpu(tmp_path, capsys):
    path, picture = tmp_path / "new" / "cpu.json", tmp_path / "cpu.png"
    options = ["--quick", "--case", "b", "--sides", "ours,floor", "--json", str(path), "--plot", str(picture)]
    assert cpu.main(options) == 0
    out = capsys.readouterr().out
    assert "Not measured: PyTorch, torch.compile, JAX, jitted." in out and "GFLOP a step" in out
    (case,) = json.loads(path.read_text())["cases"]
    assert all(len(case["seconds"][what][side]) == 2 for what in ("step", "encode") for side in ("ours", "floor"))
    assert 2.5 < case["flops"]["step"] / case["flops"]["encode"] < 3.5
    assert min(case["seconds"]["step"]["ours"]) > 0 and case["memory"]["ours"] > 2**24 and case["micro_batch"] == 4
    assert picture.stat().st_size > 1000 and not list(path.parent.glob("*.tmp"))


def test_cpu_refuses(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for options, sentence in (
        (["--sides", "ours,jax"], "pip install 'torch' 'jax'"),
        (["--sides", "torch"], "with ours among them"),
        (["--threads", "100000"], "--threads 1 to"),
    ):
        assert cpu.main(options) == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize("loss, gradient", [(1.001, 1.0), (np.nan, 1.0), (1.0, 1.01), (1.0, np.nan)])
def test_sides_that_disagree_are_refused(loss, gradient):
    ours = {"scale": np.float32(2), "weight": np.float32([1, 1])}
    theirs = ours | {"weight": np.float32([gradient, gradient])}
    assert common.compare({"ours": 1.0, "torch": 1.0}, {"ours": ours, "torch": ours}, False)["torch"] == (0, 0)
    with pytest.raises(common.Disagree, match="PyTorch has the loss"):
        common.compare({"ours": 1.0, "torch": loss}, {"ours": ours, "torch": theirs}, False)
    with pytest.raises(common.Disagree):
        common.compare({"ours": 1.0, "torch": 1.0}, {"ours": ours, "torch": {}}, False)


def test_tricks(tmp_path, capsys):
    """Every trick can be changed, and then the step computes the same: else the exit status is 1."""
    path = tmp_path / "tricks.json"
    assert tricks.main(["--quick", "--rounds", "1", "--json", str(path)]) == 0
    assert capsys.readouterr().out.count(" to ") == len(tricks.TRICKS)
    for found in json.loads(path.read_text())["tricks"].values():
        assert all(len(found["seconds"][way]) == 1 and found["memory"][way] > 2**24 for way in ("with", "without"))


def test_scaling(tmp_path, capsys):
    path, picture = tmp_path / "scaling.json", tmp_path / "scaling.png"
    assert scaling.main(["--quick", "--json", str(path), "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "width (batch 8, tokens 5" in out and "the loss, forward and backward" in out and "NOT EQUAL" not in out
    found = json.loads(path.read_text())
    products = {part["part"]: part.get("flops_exponent", [0])[0] for part in found["parts"]}
    assert products["batch"] == pytest.approx(1, abs=0.01) and 1.5 < products["width"] < 2
    assert all(min(times) > 0 for part in found["parts"] for times in part["seconds"])
    assert found["loss"]["tiled"]["256"]["bytes"] > 2**24 and picture.stat().st_size > 10000
    assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx((2, 2))


def test_profile(capsys):
    assert profile_step.main(["--preset", "shapes", "--steps", "1"]) == 0
    rows = re.findall(
        r"^(\S+ \S+|together) +(\d+\.\d+) ms +(\d+\.\d+) ms +(\d+\.\d+) ms", capsys.readouterr().out, re.M
    )
    times = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    assert min(times["layers.py linear"]) > 0 and times["optim.py update"][1] == 0
    forward, backward, both = times["together"]
    assert 0.5 < sum(row[2] for name, row in times.items() if name != "together") / both < 1.01
    assert both == pytest.approx(forward + backward, abs=0.02)


class InProcess:
    """A worker without a process: the double of CuPy is in this one alone."""

    def __init__(self, side):
        self.commands = gpu_worker.Commands()

    def ask(self, seconds, **command):
        return gpu_worker.answer_to(self.commands, **command)

    def close(self):
        pass


def test_gpu_on_the_double(card, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(gpu_worker.SMALL, "a", gpu_worker.SMALL["a"]._replace(config=VIT))
    tests, path = tmp_path / "test_it.py", tmp_path / "gpu.json"
    monkeypatch.setattr(gpu_parts, "TESTS", (str(tests),))
    tests.write_text("def test_it(): pass")
    options = ["--quick", "--case", "default", "--precision", "float32", "--precision", "bfloat16", "--json", str(path)]
    assert gpu.main(options, InProcess) == 0
    assert "0 in a step" in capsys.readouterr().out
    parts = json.loads(path.read_text())["parts"]
    assert "1 passed" in parts["tests"]["summary"] and not any("failed" in part for part in parts.values())
    assert all(step["loss_apart"] < 1e-4 for step in parts["agreement"]["default, float32"]["steps"])
    assert all(parts["ceilings"][name] > 0 for name in ("float32", "bfloat16", "bytes_per_second"))
    for row in parts["timing"]["rows"].values():
        assert len(row["seconds"]["ours"]) == 2 and row["flops"] > 1e6 and 0 < row["losses"]["ours"] < 10

    tests.write_text("def test_it(): assert 0")
    assert gpu.main(["--part", "tests", *options], InProcess) == 1
    parts = json.loads(path.read_text())["parts"]
    assert "1 failed" in parts["tests"]["disagrees"] and "rows" in parts["timing"]  # what was there is kept


def test_waits_are_counted_where_they_are(cupy):
    before, batch = cupy.cuda.Stream.synchronize, (np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 5), int))
    with gpu_measures.Waits(cupy) as waits:
        with Prefetch(lambda step, map: [batch], batch[0].shape, 0, 1) as prefetch:
            prefetch(0)[0][0].get()
    assert cupy.cuda.Stream.synchronize is before
    assert waits.places["get"] == 1 and any(re.fullmatch(r"gpu/prefetch.py:\d+ synchronize", at) for at in waits.places)


def test_gpu_without_a_card(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert gpu.main([]) == 2 and capsys.readouterr().err.startswith("CuPy is not installed")
    worker = gpu.start("ours")
    try:
        with pytest.raises(common.Failed, match="flops took more than 0 s"):
            worker.ask(0.01, do="flops", name="b32-256")
        with pytest.raises(common.Failed, match="ended with status -9"):
            worker.ask(1, do="flops", name="b32-256")
    finally:
        worker.close()


def test_tars(tmp_path):
    path = tmp_path / "tars.json"
    tars.main(["--quick", "--rounds", "1", "--json", str(path)])
    assert json.loads(path.read_text())
