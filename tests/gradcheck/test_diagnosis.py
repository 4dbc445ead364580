"""What a diagnosis says: of faults that are not of the library's own layers, in how many words, at what cost."""

import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest
from diagnosis_faults import FAULTS, recurrent

from miniclip.gradcheck import check
from miniclip.gradcheck.diagnosis import name_nonlinear, summarise
from miniclip.gradcheck.diagnosis.source_numbers import source_numbers
from miniclip.gradcheck.diagnosis.tracing import Trace, running, traced
from miniclip.layers import linear


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("f, args, kind, words", FAULTS)
def test_the_cause_is_named(f, args, kind, words):
    report = check(f, *args)
    rows = [row for row in report.rows if row.verdict == "WRONG"]
    assert rows and not report.ok
    for row in rows:
        assert row.kind == kind and words in row.why, f"\n{report}"
        assert row.why.endswith(".") and "index  " not in row.why and not re.search(r"\d\.\d{5}", row.why)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"carry": 0}, {"x": "`h[-1] @ wh`", "wx": "`h[-1] @ wh`", "wh": "`h[-1]`"}),
        ({"add": False}, {"wx": "in the first of its 5 rounds alone"}),
        ({"last": 1}, {"x": "one step too few", "wx": "in round 0 of 0–4"}),
    ],
)
def test_a_recurrence_that_forgets_a_step(wrong, words):
    report = check(recurrent(**wrong), normal(2, 5, 3), normal(3, 4), normal(4, 4))
    rows = {row.name: row for row in report.rows if not row.ok}
    assert rows.keys() == words.keys()
    for name, row in rows.items():
        assert row.kind == "time step" and words[name] in row.why, f"\n{report}"


@pytest.mark.parametrize(
    "change, readings",
    [
        (lambda g: 4 * g, ["a mean's 1/4 was forgotten", "a ½ (2 is", "added up 4 times", "1/√16"]),
        (lambda g: g / 0.8, ["keep was forgotten"]),
        (lambda g: g * 0.2, ["1 − keep"]),
        (lambda g: g / 16, ["the size of x"]),
        (lambda g: g * 0.8 / 2, ["the ratio of (keep) and (2", "perhaps"]),
        (lambda g: -g / 2, ["the sign is wrong, and", "½"]),
    ],
)
def test_every_reading_of_a_factor_is_told(change, readings):
    report = check(lambda x, keep: (x * keep, lambda dy: change(dy * keep)), normal(4, 2, 2), 0.8)
    (row,) = (row for row in report.rows if row.verdict == "WRONG")
    assert all(words in row.why for words in readings), row.why


def test_a_cause_that_is_not_there_is_not_blamed():
    """Marks that look like another fault: ids repeat, but a row is skipped; a hinge, whose few numbers look clipped."""
    ids, table = np.array([[1, 0, 3], [2, 2, 0]]), normal(5, 4)

    def row_skipped(table):
        def backward(dy):
            dtable = np.zeros_like(table)
            np.add.at(dtable, ids, dy)
            dtable[0] = 0
            return dtable

        return table[ids], backward

    def hinge(x):
        n, t = np.arange(6), np.array([0, 3, 1, 2, 4, 2])
        margins = np.maximum(0, x - x[n, t][:, None] + 1)
        margins[n, t] = 0
        g = (margins > 0) * 1.0
        g[n, t] = -1
        return margins.sum(), lambda: g

    assert check(row_skipped, table).rows[0].kind == "never accumulated"
    assert check(hinge, normal(6, 5)).rows[0].kind == "some indices"


STATISTICS = [
    lambda x: np.var(x),
    lambda x: x.std(),
    lambda x: np.linalg.norm(x),
    lambda x: np.abs(x).mean(),
    lambda x: x.max(),
    lambda x: np.mean(x),
    lambda x: np.sqrt((x * x).sum(1, keepdims=True)),
    lambda x: np.exp(x).sum(0),
    lambda x: np.einsum("ij,ij->", x, x),
    lambda x: np.sort(x, 1)[:, :1],
]


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("method", ["auto", "central"])
def test_what_is_taken_for_a_constant_is_shown_in_the_source(statistic, method):
    """Functions that are not analytic as well: they have their derivative in a forward pass that is traced."""

    def layer(x):
        y = np.zeros((4, 6))
        s = statistic(x)
        for i in range(4):
            y[i] = np.tanh(x[i]) * (s[i] if np.shape(s) == (4, 1) else s)
        return y, lambda dy: dy * (1 - np.tanh(x) ** 2) * statistic(x)

    (row,) = check(layer, normal(4, 6), method=method).rows
    assert row.verdict == "WRONG" and "did not depend on x" in row.why, row.why
    line = inspect.getsourcelines(statistic)[1]
    assert f"(line {line})" in row.why or f"(line {layer.__code__.co_firstlineno + 2})" in row.why, row.why


def test_what_nothing_explains_is_not_explained():
    report = check(lambda x: (np.tanh(x @ x.T), lambda dy: dy @ x + np.sin(1e3 * x) * dy.sum()), normal(4, 3))
    assert report.rows[0].kind == "unknown" and "cosine" in report.rows[0].why


def test_a_single_number_that_is_wrong_by_nothing_known():
    loss = lambda scale, x: (np.sin(scale * x).sum(), lambda: (np.e / 2.2 * (x * np.cos(scale * x)).sum(), None))
    row = check(loss, np.array(0.7), normal(5)).rows[0]
    assert row.kind == "factor" and "1.236 times what it should be: a constant is wrong." in row.why


def test_an_unnamed_fault_of_a_large_array_costs_few_forward_passes():
    x, w, calls = normal(8, 120), normal(120, 110), [0]

    def f(w):
        calls[0] += 1
        return np.tanh(x @ w), lambda dy: x.T @ dy + 0.1 * w * dy.sum()

    right = check(lambda w: f(w)[:1] + (lambda dy: x.T @ (dy * (1 - np.tanh(x @ w) ** 2)),), w)
    assert right.ok
    usual, calls[0] = calls[0], 0
    report = check(f, w)
    assert report.rows[0].kind == "unknown" and calls[0] < usual + 150, calls


def test_tracing_leaves_numpy_as_it_was():
    names = ("zeros", "empty", "ones", "full", "array")
    before = [getattr(np, name) for name in names]
    check(lambda x: (np.exp(x) * np.ones(3), lambda dy: dy + x), normal(3))
    assert [getattr(np, name) for name in names] == before


def test_doors_do_not_count_among_the_calls_that_tell_two_steps_apart():
    """A layer of the library is called through its door."""
    trace = Trace(np.ones((2, 3)))

    def layer(x):
        return linear(x, np.eye(3))[0]

    def both(x):
        first = layer(x)
        return layer(first)

    token = running.set(trace)
    try:
        both(traced(normal(2, 3) + 1e-30j))
    finally:
        running.reset(token)
    assert len(trace.steps) == len({step.site for step in trace.steps}) == 2


def row(name, kind, why, verdict="WRONG"):
    return SimpleNamespace(name=name, kind=kind, why=why, verdict=verdict)


def test_the_same_fault_in_all_arrays_is_said_once():
    times = "it is 4 times what it should be: a mean's 1/4 was forgotten."
    rows = [row(name, "N", times) for name in ("x", "w", "b")]
    some = [*rows, row("g", "", "", verdict="ok")]
    assert summarise(rows) == summarise(some)
    assert summarise(rows).startswith(
        "The gradients of x, w and b are all three 4 times what they should be: probably one"
    )
    masks = [row(n, "mask", f"it is the gradient as if `relu(x)` did not depend on {n}.") for n in ("x", "w")]
    assert summarise(masks).startswith("The gradients of x and w are both wrong in the same way")
    assert summarise(rows[:1]) == summarise([*rows[:1], row("w", "−1", "the sign is wrong.")]) == ""
    assert summarise([row("x", "unknown", "a"), row("w", "unknown", "b")]) == ""


def dropped(x, rate=0.25):
    tau = 0.4
    return x * KEPT / (1 - rate) / tau, lambda dy: dy


KEPT = 0.65


def test_the_numbers_in_a_function_s_source_are_found():
    outside = 0.125

    def f(x):
        return dropped(x * outside + 3)

    found = {(value, name) for value, name, _ in source_numbers([f])}
    assert {(0.125, "outside"), (0.25, "rate"), (0.4, "tau"), (0.65, "KEPT"), (3.0, "")} <= found
    lines = [where for value, name, where in source_numbers([f]) if name == "tau"]
    assert lines == [f"line {dropped.__code__.co_firstlineno + 1}"]


def test_the_numbers_that_an_object_holds_are_found():
    class Layer:
        def __init__(self):
            self.slope = 0.17

        def forward(self, x):
            return x * self.slope * 0.3

    assert {(0.17, "slope"), (0.3, "")} <= {(value, name) for value, name, _ in source_numbers([Layer()])}


@pytest.mark.parametrize(
    "backward, words",
    [
        (lambda dy: 0 * dy + 1, "dy is not used"),
        (lambda dy: dy * dy, "multiplied in twice"),
        (lambda dy: dy / np.sqrt(1 + (dy * dy).sum()), "limits the gradient's length"),
        (lambda dy: np.clip(dy, -1.5, 1.5), "no entry is larger than 1.5"),
        (lambda dy: dy + np.cos(dy), "perhaps dy is squared"),
    ],
)
def test_what_is_not_linear_is_named(backward, words):
    dy = normal(5, 6)
    assert words in name_nonlinear(backward(dy), backward(2 * dy))
