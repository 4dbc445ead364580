"""The benchmark of ranks runs, at its smallest, and finds what is wrong; the plan on paper counts right."""

import importlib.util
import json

import numpy as np
import plan
import pytest
import ranks
import scaling
from cases import TrainingState, inputs
from floor import operations, products_of

from miniclip.init import model_config

pytestmark = pytest.mark.slow
ROW = {"ranks": 2, "what": "ring, ViT", "apart": 1e-15, "counted": {"add": 4}, "formula": {"add": 4}}


@pytest.mark.skipif(not ranks.MPIRUN.exists(), reason="there is no mpirun beside this Python")
def test_ranks(tmp_path, capsys):
    pytest.importorskip("mpi4py")
    path = tmp_path / "new" / "scaling.json"
    assert scaling.main(["--part", "ranks", "--quick", "--json", str(path)]) == 0
    assert not path.exists()
    out, found = capsys.readouterr().out, json.loads(path.with_name("ranks.json").read_text())
    assert "| time of a step, 2 ranks / 1 thread" in out and "| gathered, ResNet | 2 |" in out
    rows = found["agreement"]
    assert {row["ranks"] for row in rows} == {1, 2} and len(rows) == 16 and all(row["apart"] < 1e-12 for row in rows)
    both = {row["what"]: row["counted"] for row in rows if row["ranks"] == 2}
    assert both["gathered, ViT"]["gather"] == 2 * (2 * 2 * 128 + 6 * 2) and both["gathered, ViT"]["shift"] == 0
    assert both["ring, ViT"]["shift"] == 2 * 4 * (3 * 128 + 5) and both["ring, ViT"]["gather"] == 0
    assert all(
        len(times) == 1 and times[0] > 0 for what in ("step", "loss") for times in found[what]["seconds"].values()
    )
    assert [len(held) for held in found["memory"].values()] == [4, 4, 1] and min(
        found["memory"]["dense, 1 process"]
    ) > 0


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"apart": 2e-12}, "ring, ViT on 2 ranks is apart from one process by 2.0e-12"),
        ({"apart": np.nan}, "is apart"),
        ({"counted": {"add": 5}}, "the ranks received {'add': 5}; the formulas say {'add': 4}"),
    ],
)
def test_ranks_that_disagree_are_reported(monkeypatch, tmp_path, capsys, change, sentence):
    monkeypatch.setattr(ranks, "check_possible", lambda: None)
    monkeypatch.setattr(ranks, "report", str)
    monkeypatch.setattr(ranks, "report_received", str)
    for rows, status in (([ROW], 0), ([ROW, ROW | change], 1)):
        monkeypatch.setattr(ranks, "measure_all", lambda *_: {"agreement": rows})
        assert ranks.main(["--json", str(tmp_path / "ranks.json")]) == status
    assert sentence in capsys.readouterr().err


def test_differences_are_relative_to_the_largest():
    right = [2.0, np.array([1.0, 1e-9]), np.array([1e-9])]
    assert ranks.apart(right, right) == 0
    assert ranks.apart([2.2, *right[1:]], right) == pytest.approx(0.1)
    assert ranks.apart([2.0, np.array([1.0, 1e-3]), right[2]], right) == pytest.approx(1e-3)
    assert ranks.apart([2.0, right[1], np.array([2e-9])], right) == pytest.approx(1e-6)
    assert np.isnan(ranks.apart([2.0, right[1], np.array([np.nan])], right))


def test_ranks_that_cannot_be_started_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ranks, "MPIRUN", tmp_path / "mpirun")
    assert ranks.main([]) == 2 and "pip install 'miniclip[ranks]'" in capsys.readouterr().err
    monkeypatch.setattr(ranks, "MPIRUN", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ranks.main([]) == 2 and "mpi4py" in capsys.readouterr().err
    assert ranks.main(["--rounds", "0"]) == 2


@pytest.mark.parametrize("name", ["vit-tiny", "resnet-tiny"])
def test_operations_of_many_layers_are_counted_from_few(name):
    config = model_config(name, vocab_size=100, layers=3)
    pair = inputs(config, 1)
    state = TrainingState(pair[0], [pair[1:]], config)
    step, encode = (operations(products_of(state, what)) for what in ("step", "encode"))
    assert plan.operations_of_a_pair(config) == {"step": step - 6 * config["embed_dim"], "encode": encode}


def test_the_plan(capsys):
    assert scaling.main(["--plan"]) == 0
    out = capsys.readouterr().out
    assert "none was measured on cards" in out and out.count("| modelled: R cards |") == len(plan.MODELS)
    assert "P = 151,277,313;" in out and "P/E = 295,463 pairs" in out and "390,625 steps" in out
    with pytest.raises(SystemExit) as refused:
        plan.main(["--flops", "0"])
    assert refused.value.code == 2


def test_what_is_modelled_follows_from_what_is_assumed():
    assumed = {name: default for name, (default, _) in plan.ASSUMED.items()}
    e, p = 512, 1000 * 512
    numbers = plan.received(4, e, p, batch=1000)  # where N = P/E
    assert numbers["gathered"] - 6 * 750 == numbers["gradient"]
    one, many = (plan.model_step(size, 1e10, e, p, assumed) for size in (1, 64))
    assert one["encoders"] == 64 * many["encoders"] and one["AdamW"] == many["AdamW"]
    assert one["of the loss"] == one["of the gradient"] == one["latency"] == 0 < many["of the loss"]
    faster = plan.model_step(64, 1e10, e, p, assumed | {"bandwidth": 2 * assumed["bandwidth"]})
    assert faster["of the gradient"] == many["of the gradient"] / 2 and faster["encoders"] == many["encoders"]
