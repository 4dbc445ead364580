import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import cpu
import tricks


def answer(side, path):
    """The loss of a step, and some of its gradients, as this side computes them."""
    worker = cpu.Side(side, "b", 1, 0, True)
    try:
        loss = worker.ask(do="check", file=str(path))["loss"]
    finally:
        worker.close()
    with np.load(path) as gradients:
        return loss, dict(gradients)


@pytest.mark.slow
def test_without_a_trick_the_step_computes_the_same(tmp_path):
    loss, gradients = answer("ours", tmp_path / "ours.npz")
    for trick, (_, _, _, undo) in tricks.ALL.items():
        found, others = answer(f"without {trick}", tmp_path / f"{trick}.npz")
        assert found == pytest.approx(loss, rel=1e-5), trick
        assert others.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert np.linalg.norm(others[name] - gradient) <= 1e-4 * np.linalg.norm(gradient), (trick, name)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    arguments = ["--quick", "--rounds", "2", "--trick", "last", "--trick", "exp", "--json", str(tmp_path / "a.json")]
    assert tricks.main(arguments) == 0
    said = capsys.readouterr().out
    assert "the last block everywhere" in said and said.index("tried, and not taken:") < said.index("sigmoid by exp")
    found = json.loads((tmp_path / "a.json").read_text())["tricks"]
    assert all(len(found[trick]["seconds"][way]) == 2 for trick in ("last", "exp") for way in ("with", "without"))
    assert found["last"]["memory"]["with"] > 1e6


def test_a_row_of_the_table():
    result = {
        "case": "b",
        "seconds": {"with": [1.0, 2.0, 4.0], "without": [1.5, 2.0, 8.0]},
        "memory": {"with": 2e8, "without": 3e8},
    }
    assert "1.50 (1.00 to 2.00)   1.50" in tricks.line("last", result)


def test_no_rounds(capsys):
    assert tricks.main(["--rounds", "0"]) == 2 and "at least 1" in capsys.readouterr().err
