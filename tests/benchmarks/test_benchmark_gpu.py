"""The benchmark of the graphics card, without one: its flow when parts fail, its tables, its file, its arithmetic."""

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
CARD = {"name": "Some Card 80GB", "memory": 80 << 30, "driver": 13000, "cuda": 13000, "cupy": "14.2", "numpy": "2.5"}


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    loaded = {}
    for name in ("cpu_worker", "cpu", "gpu_worker", "gpu_parts", "gpu"):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        loaded[name] = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, loaded[name])
        spec.loader.exec_module(loaded[name])
    return SimpleNamespace(**loaded)


@pytest.fixture
def gpu(modules):
    return modules.gpu


@pytest.fixture
def fake(modules):
    """A process whose answers are made up. `answers` changes them: {(side, what it does): answer or exception}."""

    class Fake:
        answers, asked, closed = {}, [], []

        def __init__(self, side):
            self.side, self.loaded = side, None

        def ask(self, seconds, command):
            what = command["do"]
            Fake.asked.append((self.side, command))
            if what == "load":
                self.loaded = command
            for key in ((self.side, what), (self.side, what, self.loaded and self.loaded["precision"])):
                if key in Fake.answers:
                    answer = Fake.answers[key]
                    answer = answer(command) if callable(answer) else answer
                    if isinstance(answer, Exception):
                        raise answer
                    if answer is not None:
                        return answer
            return getattr(self, what)(command)

        def close(self):
            Fake.closed.append(self.side)

        def card(self, command):
            return CARD

        def load(self, command):
            return {}

        def check(self, command):
            np.savez(command["file"], logit_scale=np.float32(0.5), proj=np.float32([1, 2]))
            return {"loss": 2.0, "seconds": 0.1}

        def step(self, command):
            return {"seconds": {"ours": 0.1, "torch": 0.2, "compile": 0.125}[self.side]}

        def memory(self, command):
            return {"used": 3 << 30, "held": 4 << 30}

        def flops(self, command):
            return {"step": 20 * 10**12}

        def products(self, command):
            return {"tflops": 400.0}

        def bandwidth(self, command):
            return {"bytes_per_second": 3e12}

        def waits(self, command):
            return {"count": 2, "places": {"text.py:20 get": 2}, "wrapped": ["ndarray.get"], "asked": 0.01, "done": 0.1}

        def agreement(self, command):
            return {
                "batch": 8,
                "steps": [
                    {
                        "loss": 2.0,
                        "loss_apart": 1e-12,
                        "gradient_apart": 1e-10,
                        "parameters_apart": 1e-12,
                        "worst": "proj",
                        "worst_apart": 1e-10,
                    }
                ],
            }

    return Fake


NOT_TESTS = ["--part", "agreement", "--part", "ceilings", "--part", "waits", "--part", "timing"]


def run(gpu, fake, tmp_path, *arguments):
    path = tmp_path / "results" / "gpu.json"
    status = gpu.main([*arguments, "--json", str(path)], process=fake)
    return status, json.loads(path.read_text()) if path.exists() else None


def test_everything_is_measured_told_and_written(gpu, fake, tmp_path, capsys):
    status, found = run(gpu, fake, tmp_path, *NOT_TESTS, "--rounds", "3")
    assert status == 0
    out = capsys.readouterr().out
    assert "Some Card 80GB, 80 GiB" in out and "400 TFLOP/s" in out and "3.00 TB/s" in out
    assert "2 in a step (text.py:20 get × 2); asked for in 10.0 ms, done in 100.0 ms" in out
    assert "vit-tiny, float64, 1 steps of 8: at most apart, relative: loss 1.0e-12" in out
    rows = found["parts"]["timing"]["rows"]
    assert len(rows) == 9 and all(len(row["seconds"][side]) == 3 for row in rows.values() for side in row["seconds"])
    assert all(set(row["seconds"]) == {"ours", "torch", "compile"} for row in rows.values())
    assert rows["b32-256, bfloat16"]["losses"] == {"ours": 2.0, "torch": 2.0, "compile": 2.0}
    table = [line for line in out.splitlines() if line.startswith("| ViT-B/32 at 224 px, batch 1,024 | tf32")][-1]
    assert table.count("|") == 8 and "100.0 ms | 200.0 ms (0.50; 0.50 to 0.50) | 125.0 ms (0.80" in table
    assert "3.0 / 3.0 / 3.0" in table and "200.0 TFLOP/s, 50%" in table
    assert sorted(set(fake.closed)) == ["compile", "floor", "ours", "torch"] and not list(tmp_path.rglob("*.tmp"))


def test_sides_take_turns_and_the_next_round_goes_the_other_way(gpu, fake, tmp_path):
    run(gpu, fake, tmp_path, "--part", "timing", "--case", "default", "--precision", "tf32", "--rounds", "2")
    turns = [side for side, command in fake.asked if command["do"] == "step" and "warm" not in command]
    assert turns == ["ours", "torch", "torch", "ours", "ours", "torch", "compile", "compile", "torch", "ours"]
    times = {command["times"] for _, command in fake.asked if command["do"] == "step" and "warm" not in command}
    assert times == {5, 2, 4}  # half a second each


def test_without_a_card_there_is_one_sentence(gpu, modules, fake, tmp_path, capsys):
    fake.answers["ours", "card"] = modules.gpu_parts.Failed("CuPy is installed but finds no usable graphics card.")
    status, found = run(gpu, fake, tmp_path)
    assert status == 2 and found is None
    assert capsys.readouterr().err == "CuPy is installed but finds no usable graphics card.\n"


def test_the_command_itself_says_that_there_is_no_cupy(gpu, monkeypatch, tmp_path, capfd):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cupy" else find(name))
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True if name == "cupy" else find(name))
    monkeypatch.setitem(sys.modules, "cupy", None)
    if find("cupy") is None:  # then a real worker is asked, and has none either
        assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 2
        words = capfd.readouterr()
        assert "needs CuPy" in words.err and "Traceback" not in words.err and words.err.count("\n") == 1
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--minutes", "0"]])
def test_options_that_make_no_sense(gpu, fake, tmp_path, capsys, arguments):
    assert run(gpu, fake, tmp_path, *arguments) == (2, None)
    assert "--rounds is at least 1" in capsys.readouterr().err


def test_a_part_that_fails_is_written_down_and_the_rest_goes_on(gpu, modules, fake, tmp_path, capsys):
    Failed = modules.gpu_parts.Failed
    fake.answers |= {
        ("ours", "agreement"): Failed("the process of miniclip ended with status -11 in agreement"),
        ("ours", "waits"): KeyError("a mistake"),
        ("ours", "products"): lambda command: (
            Failed("precision 'bfloat16' needs the package ml_dtypes") if command["precision"] == "bfloat16" else None
        ),
    }
    status, found = run(gpu, fake, tmp_path, *NOT_TESTS)
    parts = found["parts"]
    assert status == 0 and "status -11" in parts["agreement"]["failed"]
    assert parts["waits"]["failed"] == "KeyError: 'a mistake'"
    assert "ml_dtypes" in parts["ceilings"]["bfloat16"] and parts["ceilings"]["tf32"] == 400.0
    assert len(parts["timing"]["rows"]) == 9 and "failed" not in parts["timing"]
    assert "failed: agreement, waits" in capsys.readouterr().out


def test_a_side_that_fails_does_not_stop_the_others(gpu, modules, fake, tmp_path, capsys):
    Failed = modules.gpu_parts.Failed
    fake.answers |= {
        ("torch", "load"): Failed("ModuleNotFoundError: No module named 'torch'"),
        ("compile", "load"): Failed("ModuleNotFoundError: No module named 'torch'"),
        ("ours", "check", "bfloat16"): Failed("TypeError: bfloat16", trace="File x.py, line 5"),
    }
    status, found = run(gpu, fake, tmp_path, "--part", "timing", "--case", "b32-256")
    rows = found["parts"]["timing"]["rows"]
    assert status == 0
    assert list(rows["b32-256, float32"]["seconds"]) == ["ours"]
    assert "No module named 'torch'" in rows["b32-256, float32"]["failed"]["torch"]
    assert rows["b32-256, bfloat16"]["seconds"] == {} and rows["b32-256, bfloat16"]["failed"]["ours"] == (
        "TypeError: bfloat16"
    )
    words = capsys.readouterr()
    table = [line for line in words.out.splitlines() if "| bfloat16 |" in line][-1]
    assert "TypeError: bfloat16" in table and "No module named" in table
    assert words.err == "File x.py, line 5\n" and found["traces"] == {"TypeError: bfloat16": "File x.py, line 5"}
    assert fake.closed.count("torch") >= 3  # each time a new process: who knows what state it was in


def test_ours_in_parts_where_the_batch_does_not_fit(gpu, modules, fake, tmp_path, capsys):
    full = modules.gpu_parts.Failed("OutOfMemoryError: Out of memory allocating", memory=True)
    fake.answers |= {
        ("ours", "check"): lambda command: None if fake.asked[-2][1].get("parts") == 4 else full,
        ("torch", "step"): full,
        ("ours", "memory"): full,
    }
    status, found = run(gpu, fake, tmp_path, "--part", "timing", "--case", "b32-1024", "--precision", "float32")
    row = found["parts"]["timing"]["rows"]["b32-1024, float32"]
    assert status == 0 and row["how"] == {"ours": "4 shards, recomputed"} and row["seconds"]["ours"]
    assert "torch" not in row["seconds"] and "Out of memory" in row["failed"]["torch"]
    assert list(row["memory"]) == ["compile"] and "Out of memory" in row["failed"]["ours"]
    assert "100.0 ms, 4 shards, recomputed" in capsys.readouterr().out


def test_a_side_that_fails_in_a_later_round_keeps_its_first(gpu, modules, fake, tmp_path):
    answers = iter([None, None, modules.gpu_parts.Failed("gone")])
    fake.answers["torch", "step"] = lambda command: next(answers, modules.gpu_parts.Failed("gone"))
    row = run(gpu, fake, tmp_path, "--part", "timing", "--case", "default", "--precision", "tf32", "--rounds", "3")[1][
        "parts"
    ]["timing"]["rows"]["default, tf32"]
    assert row["failed"]["torch"] == "gone"
    assert {side: len(seconds) for side, seconds in row["seconds"].items()} == {"ours": 3, "compile": 3}


@pytest.mark.parametrize("what", ["loss", "gradient", "name", "nan"])
def test_what_computes_another_thing_is_not_timed(gpu, fake, tmp_path, capsys, what):
    def other(command):
        arrays = {"logit_scale": np.float32(0.5), "proj": np.float32([1, 2.1 if what == "gradient" else 2])}
        np.savez(command["file"], **arrays if what != "name" else {"proj": arrays["proj"]})
        return {"loss": {"loss": 2.01, "nan": float("nan")}.get(what, 2.0), "seconds": 0.1}

    fake.answers["torch", "check", "float32"] = other
    status, found = run(gpu, fake, tmp_path, "--part", "timing", "--case", "b32-256")
    rows = found["parts"]["timing"]["rows"]
    assert status == 1 and "PyTorch has the loss" in rows["b32-256, float32"]["failed"]["all"]
    assert "b32-256, float32: PyTorch" in found["parts"]["timing"]["disagrees"]
    assert "seconds" not in rows["b32-256, float32"] and rows["b32-256, tf32"]["seconds"]["torch"]
    assert "something disagrees" in capsys.readouterr().out


def test_numpy_and_cupy_may_not_drift_apart(gpu, fake, tmp_path, capsys):
    step = {"loss": 2.0, "loss_apart": 1e-12, "gradient_apart": 1e-10, "parameters_apart": 1e-12}
    fake.answers["ours", "agreement"] = lambda command: {
        "batch": 8,
        "steps": [step, step | {"gradient_apart": float("nan") if command["name"] == "vit-tiny" else 1e-4}],
    }
    status, found = run(gpu, fake, tmp_path, "--part", "agreement")
    assert status == 1
    assert found["parts"]["agreement"]["disagrees"] == (
        "NumPy and CuPy differ by too much: default in float64 after step 2, vit-tiny in float64 after step 2, "
        "vit-tiny in float32 after step 2"
    )


def test_time_that_is_up_leaves_out_what_has_not_begun(gpu, modules, fake, tmp_path):
    clock = [0.0]
    fake.answers["ours", "step"] = lambda command: clock.__setitem__(0, clock[0] + 20)
    options = gpu.parsed(["--part", "timing", "--minutes", "5", "--json", str(tmp_path / "gpu.json")])
    bench = gpu.Bench(options, fake, clock=lambda: clock[0])
    bench.open()
    assert bench.run("timing", gpu.MEASURES["timing"])
    rows = bench.found["parts"]["timing"]["rows"]
    assert rows["b32-256, bfloat16"]["seconds"]["ours"] and len(rows) == 9
    assert rows["b32-1024, float32"]["failed"] == {"all": "the time was up before it"}
    assert bench.run("waits", gpu.MEASURES["waits"])
    assert bench.found["parts"]["waits"]["failed"] == "the time was up before it began"


def test_an_earlier_run_on_this_card_is_kept_and_another_cards_is_not(gpu, fake, tmp_path):
    path = tmp_path / "results" / "gpu.json"
    run(gpu, fake, tmp_path, "--part", "ceilings")
    run(gpu, fake, tmp_path, "--part", "timing", "--case", "default", "--precision", "tf32")
    _, found = run(gpu, fake, tmp_path, "--part", "timing", "--case", "default", "--precision", "float32")
    assert set(found["parts"]) == {"ceilings", "timing"}
    assert set(found["parts"]["timing"]["rows"]) == {"default, tf32", "default, float32"}
    path.write_text(json.dumps(found | {"card": CARD | {"name": "Another"}}))
    assert set(run(gpu, fake, tmp_path, "--part", "waits")[1]["parts"]) == {"waits"}


def test_the_file_is_named_after_the_card(gpu, fake):
    bench = gpu.Bench(gpu.parsed([]), fake)
    bench.open()
    assert bench.path == FOLDER / "results" / "gpu-some-card-80gb.json"


@pytest.mark.parametrize(
    "text, status, failed",
    [
        ("def test_a(): pass", 0, None),
        ("def test_a(): assert 0", 1, None),
        ("import nothing_of_that_name", 0, "pytest ended with status 2"),
        ("import time; time.sleep(60)", 0, "the tests took too long"),
    ],
)
def test_the_suite_on_the_card_is_run_and_told(gpu, modules, fake, tmp_path, monkeypatch, text, status, failed):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_kernels.py").write_text(text)
    monkeypatch.setattr(modules.gpu_parts, "ROOT", tmp_path)
    if failed and "too long" in failed:
        monkeypatch.setitem(gpu.PARTS, "tests", 2)
    found_status, found = run(gpu, fake, tmp_path, "--part", "tests")
    part = found["parts"]["tests"]
    assert found_status == status and part["missing"] == ["tests/test_on_cupy.py"]
    assert (failed in part["failed"]) if failed else "failed" not in part
    assert ("1 failed" in part["disagrees"]) if status else "disagrees" not in part


def test_a_worker_that_does_not_answer_is_ended(gpu, modules, monkeypatch):
    process = gpu.Process("ours")
    try:
        assert process.ask(60, {"do": "flops", "name": "vit-tiny", "quick": True})["step"] > 1e9
        with pytest.raises(modules.gpu_parts.Failed, match="no attribute 'nonsense'"):
            process.ask(60, {"do": "nonsense"})
        start = time.perf_counter()
        with pytest.raises(modules.gpu_parts.Failed, match="flops took more than 0 s"):
            process.ask(0.05, {"do": "flops", "name": "b32-256"})
        assert time.perf_counter() - start < 5
        with pytest.raises(modules.gpu_parts.Failed, match="ended with status -9"):
            process.ask(5, {"do": "flops", "name": "vit-tiny"})
    finally:
        process.close()


def test_a_worker_answers_after_a_failure_and_says_if_memory_ran_out(modules):
    class Worker:
        state = SimpleNamespace(release=lambda: released.append(1))

        def good(self, value):
            return {"value": value}

        def full(self):
            raise MemoryError("Out of memory allocating 5 bytes")

        def wrong(self):
            raise ValueError("a sentence.\nmore")

    released, answers = [], []
    modules.gpu_worker.serve(
        Worker(), ['{"do": "full"}', '{"do": "wrong"}', '{"do": "good", "value": 3}'], answers.append
    )
    assert answers == [
        {"failed": "MemoryError: Out of memory allocating 5 bytes", "memory": True},
        {"failed": "a sentence.", "memory": False},
        {"ok": {"value": 3}},
    ]
    assert len(released) == 3


def test_operations_of_a_batch_are_those_of_the_batch(modules, monkeypatch):
    measures = pytest.importorskip("gpu_measures")
    config, worker = modules.gpu_worker.model("vit-tiny")[0], modules.gpu_worker.Worker()
    assert worker.flops("vit-tiny", quick=True) == {"step": measures._counted(config, 8)}
    monkeypatch.setattr(measures, "_counted", lambda config, batch: 7 * batch + 3 * batch**2)
    assert worker.flops("vit-tiny")["step"] > 1e10  # counted once
    assert modules.gpu_worker.Worker().flops("b32-1024") == {"step": 7 * 1024 + 3 * 1024**2}


def test_waits_are_counted_and_everything_is_as_before(modules):
    measures = pytest.importorskip("gpu_measures")

    class Array:
        def get(self):
            return 5

    class Stream:
        def synchronize(self):
            return None

    class Fixed(type):
        def __setattr__(cls, name, value):
            raise TypeError("immutable")

    class Event(metaclass=Fixed):
        def synchronize(self):
            return None

    runtime = SimpleNamespace(deviceSynchronize=lambda: None, streamSynchronize=lambda stream: None)
    xp = SimpleNamespace(ndarray=Array, cuda=SimpleNamespace(Stream=Stream, Event=Event, runtime=runtime))
    before = Array.get, Stream.synchronize, runtime.deviceSynchronize
    with measures.Waits(xp) as waits:
        assert Array().get() == 5
        Stream().synchronize()
        Stream().synchronize()
        runtime.deviceSynchronize()
    assert waits.places == {"get": 1, "synchronize": 2, "deviceSynchronize": 1}
    assert "Array.get" in waits.wrapped and "Event.synchronize" not in waits.wrapped
    assert (Array.get, Stream.synchronize, runtime.deviceSynchronize) == before


def test_cases_are_what_they_say(modules):
    for name, batch in (("default", 256), ("vit-tiny", 128), ("b32-256", 256), ("b32-1024", 1024)):
        assert modules.gpu_worker.model(name)[1] == batch and modules.gpu_worker.model(name, quick=True)[1] == 8
        assert f"batch {batch:,}" in modules.gpu_worker.CASES[name][0]
