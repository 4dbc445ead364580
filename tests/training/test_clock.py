import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cupy_double import cupy_double
from test_loop import SMALL, contents, once, run_to_the_end, shapes, without_timing  # noqa: F401

from miniclip import clock as clock_module
from miniclip.backend import worker_threads
from miniclip.layers import linear, softmax
from miniclip.training.clock import DATA, INPUT, LOSS, PHASES, ROWS, Clock
from miniclip.training.layer_clock import LayerClock, measure_layers
from miniclip.training.loop import Run


@pytest.fixture
def tick(monkeypatch):
    """tick(3): three seconds pass on the wall, and no others do."""
    now = [0.0]
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_phase_is_not_counted_for_the_one_around_it(tick):
    clock = Clock()
    tick(4)
    with clock.phase(INPUT):
        tick(2)
        with clock.phase(LOSS):
            tick(5)
        tick(1)
    tick(8)
    clock.stop()
    with clock.phase(LOSS):  # nothing counts any more
        tick(100)
    assert clock.seconds == dict.fromkeys(ROWS, 0) | {INPUT: 3, LOSS: 5, "the rest": 12}
    assert clock.input_share() == 3 / 20 and "input side 15.0% of wall time" in str(clock)


def test_reading_the_data_belongs_to_the_input_side(tick):
    clock = Clock()
    for name, seconds in ((DATA, 2), (INPUT, 1), (LOSS, 5)):
        with clock.phase(name):
            tick(seconds)
    assert clock.input_share() == 3 / 8


def test_a_map_counts_its_functions_by_their_names_and_stays_lazy(tick):
    clock, done = Clock(), []

    def forward(i):
        tick(1)
        done.append(i)
        return i

    results = iter(clock.map(map)(forward, range(3)))
    assert done == [] and next(results) == 0 and done == [0]
    with clock.phase(INPUT):
        tick(10)
    assert list(results) == [1, 2]
    assert list(clock.map(map)(lambda i: tick(100) or i, range(2))) == [0, 1]
    clock.stop()
    assert clock.seconds == dict.fromkeys(ROWS, 0) | {PHASES["forward"]: 3, INPUT: 10, "the rest": 200}


def test_an_error_in_a_phase_leaves_it():
    clock = Clock()
    with pytest.raises(ZeroDivisionError), clock.phase(INPUT):
        1 / 0
    assert clock.phases == ["the rest"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_is_watched_ends_in_the_same_bits(shapes, once, tmp_path, threads):
    clock, started = Clock(), time.perf_counter()
    with clock.phase(DATA):
        time.sleep(0.01)
    rows = run_to_the_end(shapes, tmp_path, threads=threads, clock=clock)
    wall = time.perf_counter() - started
    assert without_timing(rows) == without_timing(once[1])
    expected = contents(once[0])
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / name).read_bytes() == expected[name]

    assert clock.steps == SMALL.steps and set(clock.seconds) == set(ROWS)
    assert all(clock.seconds[name] > 0 for name in ROWS if name != "evaluation")
    assert 0.1 * wall < sum(clock.seconds.values()) < wall  # without the steps that layers are measured in
    assert clock.seconds[PHASES["pull_back"]] > clock.seconds["gradient norm"]
    lines = str(clock).splitlines()
    assert lines[14] == f"input side {clock.input_share():.1%} of wall time"
    assert sum(float(line.split()[-1][:-1]) for line in lines[1:13]) == pytest.approx(100, abs=1)


def test_the_layers_of_a_run(shapes, tmp_path):
    run = Run(shapes[0], SMALL, tmp_path)
    before = run.params.vector.copy(), run.optimizer.m.copy(), contents(tmp_path)
    with worker_threads(2) as pool:
        layers = measure_layers(run, pool.map, steps=2)
    assert sys.getprofile() is None
    assert (run.params.vector == before[0]).all() and (run.optimizer.m == before[1]).all() and run.step == 0
    assert contents(tmp_path) == before[2]
    shards = 3  # of a batch of 8
    calls = {name: spent[0] for name, spent in layers.spent.items()}
    assert calls["embedding", "forward"] == calls["embedding", "backward"] == 2 * shards
    assert calls["augment", "forward"] == calls["attention_pool", "backward"] == 2 * shards
    assert calls["batch_norm", "forward"] == calls["batch_norm", "backward"] > 20 * shards
    assert calls["clip_loss", "forward"] == calls["clip_loss", "backward"] == 2  # in the main thread
    assert layers.spent["batch_norm", "backward"][1] > 0
    text = str(layers)
    rows = {line.split()[0]: line.split() for line in text.splitlines()}
    assert rows["embedding"][1] == rows["embedding"][3] == str(shards)
    assert rows["augment"][3] == "0" and "Of 2 steps" in text


def busy(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_layer_is_charged_for_its_own_code_alone(monkeypatch, normal):
    """linear's product is slow here: neither what comes after it nor a thread beside it is charged for that."""

    class Slow(np.ndarray):
        def __matmul__(self, other):
            busy(0.03)
            return np.asarray(self) @ np.asarray(other)

    layers = LayerClock()

    def work(x):
        y, backward = linear(x, normal(3, 4), normal(3))
        backward(softmax(y)[0])

    with worker_threads(2) as pool:
        list(pool.map(layers.watched(work), [normal(2, 4).view(Slow), normal(2, 4).view(Slow)]))
    assert layers.spent["linear", "forward"][0] == layers.spent["softmax", "forward"][0] == 2
    assert 0.06 <= layers.spent["linear", "forward"][1] < 0.09
    assert layers.spent["softmax", "forward"][1] < 0.02
    assert layers.spent["linear", "backward"][0] == 2 and 0 < layers.spent["linear", "backward"][1] < 0.06
    assert set(layers.spent) == {
        ("outside of layers", "forward"),
        ("linear", "forward"),
        ("linear", "backward"),
        ("softmax", "forward"),
    }  # no helper such as sum_rows has a row


def test_an_error_leaves_no_watch_behind():
    def profiler(*_):
        pass

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        with pytest.raises(ZeroDivisionError):
            LayerClock().watched(lambda: 1 / 0)()
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)


@pytest.mark.slow
def test_on_a_card_every_phase_waits_for_it(shapes, tmp_path):
    """Work that is launched in a phase is done before the next begins; layers are timed so too."""
    clock, smallest = Clock(), replace(SMALL, model="resnet-micro", batch=4, shard=2, steps=2)
    with cupy_double() as card, card.counting() as counts:
        run_to_the_end(shapes, tmp_path, smallest, device="gpu", clock=clock)
    waits = [wait for wait in counts.syncs if wait.endswith(" Stream.synchronize")]  # the main thread's
    assert sum(wait.startswith("clock.py:") for wait in waits) > 2 * 10
    assert sum(wait.startswith("layer_clock.py:") for wait in waits) > 2 * 10
    assert "card's time by layer" in str(clock)
