"""The benchmark of the processor: its floor counts what it should, sides that disagree are not timed, it reports."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from miniclip.backend import worker_threads
from miniclip.tree import flatten

FOLDER = Path(__file__).parents[1] / "benchmarks"
VIT = {
    "embed_dim": 8,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 16, "head_width": 8, "patch_size": 4},
    "text_cfg": {"context_length": 6, "vocab_size": 20, "width": 16, "heads": 2, "layers": 2},
}
RESNET = VIT | {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}}


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def worker(monkeypatch):
    return load("cpu_worker", monkeypatch)


@pytest.fixture
def cpu(worker, monkeypatch):
    return load("cpu", monkeypatch)


def found(cpu, seconds):
    return {
        "case": "b",
        "title": "a model, small",
        "batch": 4,
        "shard": 2,
        "seconds": seconds,
        "about": {},
        "agreement": {"ours": (0, 0), "torch": (1e-7, 2e-6)},
        "flops": {"step": 6e9, "encode": 2e9},
        "memory": {"ours": 2**20, "torch": 2**21},
    }


SECONDS = {
    what: {"ours": [0.5, 0.6, 0.5], "floor": [0.4, 0.4, 0.4], "torch": [1.0, 2.0, 1.0]} for what in ("step", "encode")
}


def test_the_floor_holds_the_products_of_the_step(worker):
    with worker_threads(2) as pool:
        ours = worker.Ours(*worker.inputs(VIT, 4), VIT, 2, pool)
        floor = worker.Floor(ours, pool)
        tasks = [task for phase in floor.phases["encode"] for task in phase]
        products = [(a[0], b[0]) for task in tasks for a, b in task]
        assert len(tasks) == 2  # one a shard
        assert products.count(((2 * 4, 48), (48, 16))) == 2  # the patches
        assert products.count(((2 * 5, 16), (16, 64))) >= 2  # a first block's mlp, on all tokens
        assert floor.flops("step") > 2.5 * floor.flops("encode")
        floor.step()
        floor.encode()
        assert np.isfinite(ours.step())
        ours.encode()


@pytest.mark.parametrize("a, b, expected", [((3, 4), (4, 5), 120), ((2, 1, 3, 4), (7, 4, 5), 14 * 120)])
def test_flops_of_a_product(worker, a, b, expected):
    assert worker.flops(((a, None), (b, None))) == expected


def test_an_operand_is_laid_out_as_it_was(worker):
    view = np.zeros((6, 4, 5), np.float32).transpose(1, 2, 0)[:, 1:]
    assert worker.laid_out(view.shape, view.strides).strides == view.strides


def test_a_ratio_is_that_of_a_round(cpu):
    assert cpu.ratios(SECONDS["step"], "torch") == (0.5, 0.3, 0.5)


def test_the_table_tells_every_side(cpu):
    lines = cpu.table(found(cpu, SECONDS)).splitlines()
    assert all(len(line) <= 150 for line in lines)
    torch = next(line for line in lines if line.startswith("PyTorch"))
    assert "1000.0 ms" in torch and "0.50 (0.30 to 0.50)" in torch and torch.endswith("2 MiB")
    assert any("6.0 GFLOP a step, at 15 GFLOP/s" in line for line in lines)


def test_the_plot_and_the_file_are_written(cpu, tmp_path):
    cpu.plot([found(cpu, SECONDS)], tmp_path / "new" / "cpu.png")
    assert (tmp_path / "new" / "cpu.png").stat().st_size > 1000
    cpu.write_json({"cases": [1]}, tmp_path / "cpu.json")
    assert json.loads((tmp_path / "cpu.json").read_text()) == {"cases": [1]}
    assert not list(tmp_path.glob("*.tmp"))


def test_sides_that_disagree_are_refused(cpu):
    class Answers:
        def __init__(self, name, loss):
            self.name, self.loss = name, loss

        def ask(self, do, file):
            np.savez(file, logit_scale=np.float32(0.5))
            return {"loss": self.loss}

    assert cpu.check([Answers("ours", 1.0), Answers("torch", 1.00001)], False)["torch"][0] <= 2e-5
    with pytest.raises(cpu.Disagree, match="PyTorch has the loss 1.001"):
        cpu.check([Answers("ours", 1.0), Answers("torch", 1.001)], False)
    with pytest.raises(cpu.Disagree):
        cpu.check([Answers("ours", 1.0), Answers("torch", float("nan"))], False)


def test_a_missing_peer_and_wrong_sides_are_told_in_a_sentence(cpu, monkeypatch, capsys):
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda name: None)
    assert cpu.main(["--sides", "ours,jax"]) == 2
    assert "pip install 'torch' 'jax'" in capsys.readouterr().err
    assert cpu.main(["--sides", "torch"]) == 2
    assert "with ours among them" in capsys.readouterr().err


def test_the_command_measures(cpu, tmp_path, capsys):
    path = tmp_path / "cpu.json"
    assert cpu.main(["--quick", "--case", "b", "--sides", "ours,floor", "--json", str(path)]) == 0
    assert "Not measured: PyTorch, torch.compile, JAX, jitted." in capsys.readouterr().out
    case = json.loads(path.read_text())["cases"][0]
    assert len(case["seconds"]["step"]["floor"]) == 2 and case["memory"]["ours"] > 2**20


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["ViT", "ResNet"])
@pytest.mark.parametrize("peer", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_peers_have_our_loss_and_gradients(worker, monkeypatch, peer, config):
    pytest.importorskip(peer)
    params, images, tokens = worker.inputs(config, 4)
    module = load(f"peers_{peer}", monkeypatch)
    arguments = (flatten(params), images, tokens, config, worker.SETTINGS)
    theirs = module.Torch(*arguments, 1) if peer == "torch" else module.Jax(*arguments)
    with worker_threads(1) as pool:
        ours = worker.Ours(params, images, tokens, config, 4, pool)
        for z_ours, z_theirs in zip(ours.encode(), theirs.encode()):
            assert np.abs(np.asarray(z_theirs) - z_ours).max() <= 1e-4
        loss, gradient = ours.loss_and_gradient()
        their_loss, their_gradient = theirs.loss_and_gradient()
        assert abs(their_loss - loss) <= 1e-4 * abs(loss)
        for name in worker.GRADIENTS:
            if name in gradient:
                apart = np.linalg.norm(their_gradient[name] - gradient[name]) / np.linalg.norm(gradient[name])
                assert apart <= (2e-3 if config is VIT else 0.05), name
        ours.optimizer.clip = np.inf
        for _ in range(2):  # one step, and the loss after it: AdamW is the same
            ours_loss, their_loss = ours.step(), theirs.step()
        assert abs(ours_loss - their_loss) <= 1e-3 * abs(ours_loss)
