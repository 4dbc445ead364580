"""The curves and matrices show the numbers they were given, at the right place, and nothing is cut off."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox

from miniclip import plots
from miniclip.plots.curves import _smooth


def a_log(steps=60):
    rng = np.random.default_rng(0)
    log = []
    for step in range(10, 10 * steps + 1, 10):
        scale = 2.66 + step / 400
        row = {
            "step": step,
            "lr": 1e-3,
            "logit_scale": scale,
            "tau": np.exp(-scale),
            "d_logit_scale": rng.normal() - 0.5,
        }
        log.append({**row, "loss": 5 * np.exp(-step / 200) + 0.1 * rng.random()})
        if step % 100 == 0:
            artist = {"eval/unseen artist/top1": step / 2000, "eval/unseen artist/chance": 1 / 1599}
            log.append({"step": step, **artist, "eval/ten/top1": 0.6, "eval/ten/chance": 0.1})
    return log


def levels(axes, style="--"):
    """The heights of the horizontal lines of one style."""
    return [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == style]


@pytest.mark.parametrize("batch", [8, 256])
def test_loss_curve_marks_ln_n(batch, inside):
    log = a_log()
    axes = inside(plots.loss_curve(log, batch)).axes[0]
    assert levels(axes) == [np.log(batch)] and f"ln {batch} = {np.log(batch):.2f}" in axes.texts[0].get_text()
    raw = axes.lines[0].get_xydata()
    np.testing.assert_array_equal(raw, [[row["step"], row["loss"]] for row in log if "loss" in row])
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > np.log(batch) and "nats" in axes.get_ylabel()


def test_a_resumed_and_a_broken_log():
    log = [{"step": step, "loss": loss} for step, loss in [(2, 5.0), (1, 6.0), (2, 4.0), (3, float("nan")), (4, None)]]
    raw = plots.loss_curve(log, 8).axes[0].lines[0].get_xydata()
    assert raw.tolist() == [[1, 6], [2, 4]]
    with pytest.raises(ValueError, match="holds no finite 'loss'"):
        plots.loss_curve(log[3:], 8)


def test_accuracy_curve_has_a_line_and_its_chance_for_each_evaluation(inside):
    axes = inside(plots.accuracy_curve(a_log())).axes[0]
    assert sorted(levels(axes, ":")) == [pytest.approx(100 / 1599), 10]
    curves = {line.get_label().split(" (")[0]: line for line in axes.lines if line.get_linestyle() == "-"}
    assert set(curves) == {"unseen artist", "ten"}
    np.testing.assert_allclose(curves["unseen artist"].get_ydata(), np.arange(5, 35, 5))
    assert axes.get_ylim()[0] == 0
    with pytest.raises(ValueError, match="no evaluation"):
        plots.accuracy_curve([{"step": 1, "loss": 2.0}])


def test_temperature_curve_shows_tau_above_its_gradient(inside):
    log = a_log()
    figure = inside(plots.temperature_curve(log))
    tau, gradient = figure.axes
    steps = [row for row in log if "loss" in row]
    np.testing.assert_allclose(tau.lines[0].get_ydata(), [row["tau"] for row in steps])
    assert tau.get_yscale() == "log" and levels(tau) == [0.01] and tau.get_ylim()[0] < 0.01
    assert gradient.lines[1].get_ydata().tolist() == [row["d_logit_scale"] for row in steps]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=130))
def test_smoothing_against_a_loop(y):
    half = len(y) // 40
    mean = [np.mean(y[max(i - half, 0) : i + half + 1]) for i in range(len(y))]
    np.testing.assert_allclose(_smooth(np.array(y)), mean, atol=1e-9)


@pytest.mark.parametrize("n, words", [(1, False), (5, True), (40, False)])
def test_similarity_matrices_share_one_colour_scale(n, words, inside):
    rng = np.random.default_rng(1)
    before, after = rng.uniform(0.2, 0.5, (n, n)), rng.uniform(-0.4, 0.1, (n, n)) + 0.9 * np.eye(n)
    names = [f"name {i}, rather long to be read $" for i in range(n)] if words else None
    pictures = rng.integers(0, 256, (n, 8, 8, 4), np.uint8) if words else None
    figure = inside(plots.similarity_matrices(before, after, names, pictures))
    left, right, bar = figure.axes  # one colour bar for both
    for axes, matrix in ((left, before), (right, after)):
        (image,) = axes.images
        assert image.get_clim() == (min(before.min(), after.min()), max(before.max(), after.max()))
        np.testing.assert_array_equal(image.get_array(), matrix)
        assert f"pairs {np.mean([matrix[i, i] for i in range(n)]):.2f}" in axes.get_title()
        assert sum(isinstance(artist, AnnotationBbox) for artist in axes.artists) == (n if words else 0)
    assert "cosine" in bar.get_ylabel()


def test_similarity_matrices_must_be_square_and_alike():
    for before, after in ((np.zeros((2, 2)), np.zeros((3, 3))), (np.zeros((2, 3)), np.zeros((2, 3)))):
        with pytest.raises(ValueError, match="Two square matrices"):
            plots.similarity_matrices(before, after)


def test_gradient_colours_are_symmetric_about_zero(inside):
    rng = np.random.default_rng(2)
    s = rng.standard_normal((6, 6)) + 3 * np.eye(6)
    p, q = (np.exp(s) / np.exp(s).sum(axis, keepdims=True) for axis in (1, 0))
    g = (p + q - 2 * np.eye(6)) / 12
    figure = inside(plots.gradient_matrices(s, p, g))
    assert figure.axes[1].images[0].get_clim() == (0, 1)
    for sign in (1, -1):  # whichever side is the longer
        clim = plots.gradient_matrices(s, p, sign * g).axes[2].images[0].get_clim()
        assert clim == (-abs(g).max(), abs(g).max())
    assert f"ΣG = {g.sum():.0e}" in figure.axes[2].get_title() and abs(g.sum()) < 1e-15
    plots.gradient_matrices(s, p, 0 * g).draw_without_rendering()  # a gradient of zeros has colours too


def test_the_v_curve_marks_the_longest_step_of_the_least_error(inside):
    steps = np.logspace(-12, -1, 12)
    curves = {"central": (steps, steps**2 + 1e-16 / steps), "complex": (steps, np.where(steps > 1e-3, np.nan, 1e-30))}
    axes = inside(plots.v_curve(curves)).axes[0]
    assert levels(axes) == [np.finfo(float).eps]
    marked = {line.get_label(): float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() in "os"}
    assert [f"{step:.0e}" for step in marked.values()] == ["1e-06", "1e-03"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "central: 1e-10 at h = 1e-06",
        "complex: 1e-17 at h = 1e-03",
    ]


def test_given_axes_are_drawn_on():
    log, eye = a_log(), np.eye(3)
    for draw, count in (
        (lambda a: plots.loss_curve(log, 8, ax=a[0]), 1),
        (lambda a: plots.accuracy_curve(log, ax=a[0]), 1),
        (lambda a: plots.temperature_curve(log, axes=a), 2),
        (lambda a: plots.similarity_matrices(eye, eye, axes=a), 2),
        (lambda a: plots.gradient_matrices(eye, eye, eye, axes=a), 3),
    ):
        mine = Figure()
        axes = np.atleast_1d(mine.subplots(1, count))
        assert draw(axes) is mine and all(a.has_data() for a in axes)


def test_matplotlib_is_asked_for_late_and_its_settings_are_left_alone():
    code = """
import io, sys
import miniclip
from miniclip import plots
assert "matplotlib" not in sys.modules
import matplotlib
settings = lambda: {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
before = settings()
for figure in (plots.loss_curve([{"step": 1, "loss": 2.0}], 8), plots.similarity_matrices([[1]], [[1]])):
    figure.savefig(io.BytesIO())
assert settings() == before and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
