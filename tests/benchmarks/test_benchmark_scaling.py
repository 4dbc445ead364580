"""The benchmark of how cost grows: exponents are right, what is not equal is told, the command measures and draws."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("cpu_worker", "cpu", "scaling"):  # what the tests of cpu.py have loaded is theirs
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("scaling", FOLDER / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("cpu_worker", "cpu"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def part(name="batch"):
    return {
        "part": name,
        "sizes": [8, 16, 32],
        "seconds": [[1e-3, 9.0, 1e-3], [2e-3] * 3, [8e-3] * 3],
        "flops": [10, 20, 40],
        "fixed": {"width": 32},
        "exponent": (1.5, 2.0),
        "flops_exponent": (1.0, 1.0),
    }


def loss(peak=0.5e9, seconds=1.1, apart=1e-15, n="32768"):
    one = {"seconds": 1.0, "bytes": 10**8}
    return {
        "agreement": [["float64, tile 64, dense", 257, apart, 1e-12]],
        "dimensions": 512,
        "compared": {"2048": {"dense": [1.0, 2.0, 1.0], "tiled": [seconds, 2.0, seconds]}},
        "dense": {"2048": one},
        "tiled": {"2048": one, n: {"seconds": 9.0, "bytes": peak}},
    }


def test_an_exponent_is_a_slope(scaling):
    sizes = np.array([1, 2, 4, 8])
    assert scaling.exponent(sizes, 3 * sizes**1.5) == pytest.approx((1.5, 1.5))
    fit, end = scaling.exponent(sizes, sizes + sizes**2 / 8)  # the square only begins to count
    assert 1 < fit < end < 2
    assert scaling.exponent([1, 2], [1.0, 0.5]) == pytest.approx((-1, -1))


def test_the_products_grow_as_theory_says(scaling):
    """The multiplications of a step, counted: the batch's exponent is 1, the width's below 2, the tokens' between."""
    from miniclip.backend import worker_threads

    def counted(batch, width, tokens):
        config = scaling.model(width, tokens)
        with worker_threads(1) as pool:
            ours = scaling.Ours(*scaling.inputs(config, batch), config, scaling.SHARD, pool)
            return sum(
                scaling.flops(product)
                for phase in scaling.products_of(ours, "step")
                for task in phase
                for product in task
            )

    least = counted(16, 32, 17)
    assert counted(32, 32, 17) == pytest.approx(2 * least, rel=0.01)
    assert 3 < counted(16, 64, 17) / least < 4
    assert 65 / 17 < counted(16, 32, 65) / least < (65 / 17) ** 2


def test_a_part_is_told(scaling):
    words = scaling.tell_part(part())
    assert "       8         16         32" in words
    assert "     1.0 ms     2.0 ms     8.0 ms" in words  # medians
    assert "exponent 1.50, at the large end 2.00; the products counted: 1.00" in words
    assert "−1, up to the processors" in scaling.tell_part(part("threads"))


def test_promises_are_told_in_words(scaling):
    words = scaling.tell_loss(loss())
    assert "0.50 GB at most; promised is less than 1 GB: kept." in words
    assert "1.10 (1.00 to 1.10) at N = 2048; promised is 1.2 at most: kept." in words
    assert "apart by 1.0e-15, allowed 1e-12." in words
    words = scaling.tell_loss(loss(peak=1.5e9, seconds=1.3, apart=1e-9))
    assert "1.50 GB at most; promised is less than 1 GB: NOT kept." in words
    assert "promised is 1.2 at most: NOT kept." in words and "NOT EQUAL" in words
    assert "which was not measured" in scaling.tell_loss(loss(n="256"))


@pytest.mark.parametrize("apart, status", [(1e-15, 0), (1e-9, 1), (float("nan"), 1)])
def test_what_is_not_equal_fails(scaling, monkeypatch, tmp_path, capsys, apart, status):
    monkeypatch.setattr(scaling, "measure_loss", lambda plan, rounds: loss(apart=apart))
    assert scaling.main(["--part", "loss", "--json", str(tmp_path / "scaling.json")]) == status
    assert ("NOT EQUAL" in capsys.readouterr().out) == bool(status)


def test_a_wrong_loss_is_found(scaling, monkeypatch):
    from miniclip.loss import clip_loss

    def wrong(image, text, logit_scale, tile=None):
        value, backward = clip_loss(image, text, logit_scale)
        return value, lambda: (*backward()[:2], backward()[2] * (1 + 1e-3))

    assert all(apart <= allowed for *_, apart, allowed in scaling.agree([64], 100))
    monkeypatch.setattr(scaling, "losses", lambda: {"dense": clip_loss, "tiled": wrong})
    found = scaling.agree([64], 100)
    assert [apart > allowed for *_, apart, allowed in found] == [False, True, True, True, True, False]


def test_what_cannot_run_is_told_in_a_sentence(scaling, tmp_path, capsys):
    assert scaling.main(["--threads", "100000"]) == 2
    assert scaling.main(["--rounds", "0"]) == 2
    assert "--rounds at least 1" in capsys.readouterr().err
    with pytest.raises(scaling.NotPossible, match="ended with status"):
        scaling.ask(do="nothing")


@pytest.mark.slow
def test_the_command_measures_and_draws(scaling, tmp_path, capsys):
    json_file, picture = tmp_path / "new" / "scaling.json", tmp_path / "scaling.png"
    options = ["--quick", "--part", "width", "--part", "loss", "--json", str(json_file), "--plot", str(picture)]
    assert scaling.main(options) == 0
    words = capsys.readouterr().out
    assert "width (batch 8, tokens 5" in words and "the loss, forward and backward" in words
    found = json.loads(json_file.read_text())
    assert [one["part"] for one in found["parts"]] == ["width"]
    assert len(found["parts"][0]["seconds"]) == 2 and all(len(times) == 2 for times in found["parts"][0]["seconds"])
    assert found["loss"]["tiled"]["256"]["bytes"] > 2**20 and len(found["loss"]["compared"]["128"]["dense"]) == 2
    assert not list(json_file.parent.glob("*.tmp")) and picture.stat().st_size > 1000


def test_the_plot_has_six_panels(scaling, tmp_path):
    scaling.plot([part(name) for name in ("batch", "width", "tokens", "threads")], loss(), tmp_path / "a" / "b.png")
    assert (tmp_path / "a" / "b.png").stat().st_size > 10000
