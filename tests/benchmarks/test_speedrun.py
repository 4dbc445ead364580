"""The table of records, and that both sides of benchmarks/speedrun.py train the same."""

import json

import common
import numpy as np
import pytest
import speedrun
from runs import SMALL

from miniclip.training import Run
from miniclip.tree import flatten

WHERE = {"processor": "a | b", "time": "2030-01-02 03:04", "load": [0.5]}


class Fake:
    """A worker without a process: it learns `gain` a step, and takes `seconds`."""

    def __init__(self, order, side, seconds, loss=5.0):
        self.order, self.side, self.seconds, self.loss, self.steps = order, side, seconds, loss, 0

    def ask(self, do, times=0):
        if do == "evaluate":
            return {"top1": self.steps / 100, "top5": self.steps / 50}
        self.order.append((self.side, times))
        self.steps += times
        return {"seconds": times * self.seconds, "drawing": times * 0.1, "losses": [self.loss] * times}


def test_sides_take_turns_until_all_steps_are_taken():
    order = []
    workers = {"ours": Fake(order, "ours", 1.0), "torch": Fake(order, "torch", 2.0)}
    found = speedrun.race(workers, 50, evaluate_every=30)
    turns = [times for side, times in order if side == "ours"]
    assert turns[0] == speedrun.COMPARED and sum(turns) == 50 and max(turns) <= speedrun.TURN
    assert [side for side, _ in order[:4]] == ["ours", "torch", "torch", "ours"]
    assert found["torch"]["curve"] == [[30, 60.0, 0.3, 0.6], [50, 100.0, 0.5, 1.0]]
    assert found["ours"]["seconds"] == 50 and len(found["ours"]["losses"]) == 50

    options = speedrun.parsed(["--sides", "ours", "--name", "x"])
    ours, torch = speedrun.records(found, options, WHERE)
    assert ours["top1"] == 0.5 and ours["ms_a_step"] == 1000 and torch["input"] == pytest.approx(0.05)
    assert ours["command"] == "python benchmarks/speedrun.py --sides ours --name x" and ours["date"] == "2030-01-02"
    lines = speedrun.table([torch, ours | {"top1": 0.4}, ours]).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and "a / b" in lines[2]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 50.0%", "| 50.0%", "| 40.0%"]
    assert "miniclip" in lines[2] and "PyTorch" in lines[3]


@pytest.mark.parametrize("loss", [5.01, float("nan")])
def test_sides_that_train_differently_are_not_timed(loss):
    order = []
    workers = {"ours": Fake(order, "ours", 1.0), "torch": Fake(order, "torch", 2.0, loss)}
    with pytest.raises(common.Disagree, match="PyTorch has the loss .* at step 1, miniclip 5.000000"):
        speedrun.race(workers, 50)
    assert sum(times for _, times in order) == 2 * speedrun.COMPARED


def test_records_are_kept_and_added_to(tmp_path, monkeypatch, capsys):
    order, path = [], tmp_path / "records.json"

    class Started(Fake):
        def __init__(self, script, name, word, arguments):
            assert script == "speedrun.py" and word == "worker" and json.loads(arguments)[3:5] == [3, "noto"]
            super().__init__(order, name, 1.0)

        def close(self):
            order.append("closed")

    monkeypatch.setattr(speedrun, "Worker", Started)
    words = ["--sides", "ours", "--steps", "7", "--seed", "3", "--json", str(path)]
    assert speedrun.main(words) == 0 and not path.exists() and order[-1] == "closed"
    for count in (1, 2):
        assert speedrun.main([*words, "--record", "--name", f"run {count}"]) == 0
        assert len(json.loads(path.read_text())["records"]) == count
    capsys.readouterr()
    assert speedrun.main(["--table", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "| run 1 |" in out and "| run 2 |" in out and "| 7 |" in out


def test_what_cannot_be_raced(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speedrun.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "other.json").write_text('{"records": [{"top1": 1}]}')
    for words, said in (
        (["--sides", "jax"], "--sides are ours"),
        (["--steps", "0"], "at least 1"),
        (["--threads", "100000"], "--threads are at most"),
        (["--seed", "-1"], "at least 0"),
        (["--style", "fluent"], "not chosen on an exam"),
        (["--style", "crayon"], "--style is one of"),
        ([], "pip install torch"),
        (["--sides", "ours", "--json", str(tmp_path / "other.json")], "no table of records"),
    ):
        assert speedrun.main(words) == 2, words
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("descriptions", [{}, {"descriptions": 0.4}, {"description_weight": 0.3, "optimizer": "muon"}])
@pytest.mark.parametrize("model", ["resnet-micro", "vit-tiny"])
def test_both_sides_train_the_same(shapes, tmp_path, model, descriptions):
    """Losses, parameters and their moving average, up to rounding; with texts that are true of several pictures too."""
    pytest.importorskip("torch")
    data, config = shapes[0], speedrun.replace(SMALL, model=model, steps=100, warmup=50, batch_size=12, micro_batch=6)
    if descriptions:
        words = [[text.split()[0] for text in texts] for texts in data.captions]
        data, config = speedrun.replace(data, descriptions=words), speedrun.replace(config, **descriptions)
    ours = speedrun.Ours(Run(data, config, tmp_path / "ours"))
    theirs = speedrun.torch_side(Run(data, config, tmp_path / "theirs"), threads=1)
    shared = [true is not None and len(true[0]) > 12 for step in range(5) for true in ours.run.positives(step)]
    assert any(shared) == bool(descriptions)
    losses = np.array([[side.step(map)[0] for side in (ours, theirs)] for _ in range(5)])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-4)
    assert losses[0, 0] != pytest.approx(losses[1, 0])
    for name, leaf in flatten(ours.model().params).items():
        other = flatten(theirs.model().params)[name]
        assert np.linalg.norm(other - leaf) <= 2e-3 * np.linalg.norm(leaf) + 1e-3, name
    ours.run.folder.close()
