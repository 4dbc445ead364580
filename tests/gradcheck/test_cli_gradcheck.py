"""The command gradcheck for the layers of the library, as it is typed."""

import json
import os
import signal
import subprocess
import sys

import pytest
from commands import listen_to_ctrl_c, python
from PIL import Image

from miniclip.cli import main
from miniclip.gradcheck import CASES, command
from miniclip.layers import linear


@pytest.fixture
def wrong_linear(monkeypatch):
    """The bias gradient of linear is twice what it should be."""

    def doubled(x, weight, bias):
        y, backward = linear(x, weight, bias)

        def wrong(dy):
            dx, grads = backward(dy)
            return dx, grads | {"bias": 2 * grads["bias"]}

        return y, wrong

    def draw(r, n, t, k, m):
        return doubled, r.normal(n, t, k), r.weight(m, k), r.normal(m)

    monkeypatch.setitem(CASES, "linear", (draw, 32))


def test_what_is_right_ends_in_its_worst_error_and_exit_status_0(capsys):
    assert main(["gradcheck", "--layer", "l*", "--layer", "softmax", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "complex" in lines[2] and "central" in lines[2] and "adjoint" in lines[2]
    assert [line.split()[0] for line in lines[3:7]] == ["linear", "layer_norm", "softmax", "l2_normalize"]
    assert all(line.endswith("ok") for line in lines[3:7])
    assert lines[-2].startswith("worst error: complex ") and lines[-1].startswith("All 12 checks are right, in ")
    assert any(line.split()[0] == "weight" and line.split()[2] == "×" for line in lines if "weight" in line)


def test_what_is_wrong_is_shown_in_full_with_exit_status_1(wrong_linear, capsys):
    assert main(["gradcheck", "--layer", "linear", "--layer", "relu", "--method", "complex"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG: bias[" in printed and "it is 2 times what it should be" in printed
    assert printed.splitlines()[-1] == "Not right: 1 of 2 checks."
    row = next(line for line in printed.splitlines() if line.startswith("linear "))
    assert row.endswith("WRONG") and "inf" not in printed


@pytest.mark.parametrize("layer, status", [("linear", 1), ("relu", 0)])
def test_json(wrong_linear, capsys, layer, status):
    assert main(["gradcheck", "--layer", layer, "--method", "adjoint", "--dtype", "float32", "--json"]) == status
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is (status == 0) and printed["dtype"] == "float32"
    (report,) = printed["reports"]
    assert report["function"] == layer and [row["name"] for row in report["rows"]][0] == "x"


def test_plot(tmp_path):
    assert main(["gradcheck", "--layer", "softmax", "--plot", str(tmp_path / "v.png")]) == 0
    with Image.open(tmp_path / "v.png") as picture:
        assert picture.size > (400, 200)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--layer", "lstm"], "there is no layer 'lstm'; choose one of: linear"),
        (["--plot", "v.png"], "--plot draws one layer: say with --layer which"),
        (["--layer", "gelu", "--plot", "v.xyz"], "the picture cannot be written to v.xyz"),
        (["--layer", "gelu", "--plot", "nowhere/v.png"], "nowhere"),
        (["--seed", "-1"], "--seed is -1"),
    ],
)
def test_what_is_refused(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["gradcheck", *arguments]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_a_refusal_is_json_too(capsys):
    assert main(["gradcheck", "--layer", "lstm", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False and found["error"].startswith("there is no layer 'lstm'")


def test_many_layers_are_checked_by_processes_and_printed_in_order(capsys, monkeypatch):
    """The same reports as by one process."""
    layers = ["--layer", "*softmax*", "--layer", "mlp*", "--layer", "relu", "--method", "adjoint", "--method", "auto"]

    def found():
        assert main(["gradcheck", *layers, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["reports"]

    monkeypatch.setattr(command, "ProcessPoolExecutor", None)
    alone = found()
    monkeypatch.undo()
    monkeypatch.setattr(command, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(command, "cpu_count", lambda: 2)
    monkeypatch.setattr(command, "QUICK", 5)
    assert found() == alone
    names = ["relu", "softmax", "mlp (quick_gelu)", "mlp (gelu)"]
    assert [report["function"] for report in alone] == [name for name in names for _ in range(2)]


def end_process(*task):
    os._exit(1)


def test_a_process_that_is_ended_from_outside(capsys, monkeypatch):
    monkeypatch.setattr(command, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(command, "cpu_count", lambda: 2)
    monkeypatch.setattr(command, "check_case", end_process)
    assert main(["gradcheck", "--layer", "relu", "--method", "auto"]) == 2
    assert capsys.readouterr().err == "miniclip: one of the processes was ended from outside: is there enough memory?\n"


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_with_one_line():
    words = [sys.executable, "-u", "-m", "miniclip", "gradcheck"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    run = subprocess.Popen(words, **pipes, preexec_fn=listen_to_ctrl_c)
    while not run.stdout.readline().startswith("layer_norm"):
        assert run.poll() is None
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=60)  # ends when none of the processes holds the pipes any more
    assert run.returncode == 130 and err == "miniclip: interrupted.\n"


@pytest.mark.slow
def test_the_whole_library():
    done = python("gradcheck")
    assert done.returncode == 0 and not done.stderr
    rows = [line[:30].rstrip() for line in done.stdout.splitlines() if line.endswith("  ok")]
    assert rows == list(CASES) and f"All {3 * len(CASES)} checks are right" in done.stdout
