"""The linear probe: its gradient against differences, its minimum against Newton's method."""

import numpy as np
import pytest

from miniclip.evaluation.linear_probe import lbfgs, linear_probe, probe_loss


def clusters(seed, n, classes=4, width=6, spread=0.4):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, width))
    y = rng.integers(0, classes, n)
    return (centres[y] + spread * rng.standard_normal((n, width))).astype(np.float32), y


def test_gradient_against_central_differences():
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((11, 3)), rng.integers(0, 4, 11), rng.standard_normal((4, 4))
    loss, gradient = probe_loss(w, x, y, 0.3)
    p = np.exp(x @ w[:, :-1].T + w[:, -1])
    assert loss == pytest.approx(
        np.mean([-np.log(p[i, y[i]] / p[i].sum()) for i in range(11)]) + 0.15 * (w[:, :-1] ** 2).sum()
    )
    for i in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[i] = 1e-5
        difference = (probe_loss(w + step, x, y, 0.3)[0] - probe_loss(w - step, x, y, 0.3)[0]) / 2e-5
        assert gradient[i] == pytest.approx(difference, abs=1e-9)


def test_it_reaches_the_minimum_that_newton_finds():
    x, y = clusters(1, 40, classes=3, width=2, spread=2.0)
    result = linear_probe(x, y, x, y, l2=0.01)
    w = np.zeros(9)  # Newton with the Hessian by differences of gradients

    def f(w):
        return probe_loss(w.reshape(3, 3), x.astype(float), y, 0.01)[1].ravel()

    for _ in range(20):
        hessian = np.stack([(f(w + e) - f(w - e)) / 2e-5 for e in 1e-5 * np.eye(9)])
        w = w - np.linalg.lstsq(hessian, f(w), rcond=1e-6)[0]  # equal shifts of all biases change nothing
    best = w.reshape(3, 3)
    np.testing.assert_allclose(result["weight"], best[:, :2], atol=1e-3)
    np.testing.assert_allclose(result["bias"] - result["bias"].mean(), best[:, 2] - best[:, 2].mean(), atol=1e-3)
    assert result["loss"] == pytest.approx(probe_loss(best, x.astype(float), y, 0.01)[0], abs=1e-8)


def test_accuracy_is_that_of_the_weights_and_repeats_to_the_bit():
    (x, y), (x_test, y_test) = clusters(2, 200), clusters(3, 100)
    labels = np.array([10, -3, 7, 40])  # labels need not count from 0
    a = linear_probe(x, labels[y], x_test, labels[y_test])
    guess = [a["classes"][np.argmax([w @ row + b for w, b in zip(a["weight"], a["bias"])])] for row in x_test]
    assert a["accuracy"] == np.mean(guess == labels[y_test]) > 0.9
    b = linear_probe(x, labels[y], x_test, labels[y_test])
    assert a["weight"].tobytes() == b["weight"].tobytes() and a["iterations"] == b["iterations"] > 3
    unseen = linear_probe(x, labels[y], x_test, np.full(100, 5))
    assert unseen["accuracy"] == 0


def test_the_sweep_takes_what_does_best_on_the_part_set_aside():
    x, y = clusters(4, 120, spread=1.0)
    swept = linear_probe(x, y, x, y, l2=[1e4, 1e-2])
    assert swept["l2"] == 1e-2  # 1e4 leaves nothing but the biases
    assert swept["weight"].tobytes() == linear_probe(x, y, x, y, l2=1e-2)["weight"].tobytes()


def test_lbfgs_beats_a_narrow_valley_and_warns_when_cut_short():
    scale = np.logspace(0, 4, 12)

    def valley(x):
        return float((scale * (x - 1) ** 2).sum()), 2 * scale * (x - 1)

    x, value, steps = lbfgs(valley, np.zeros(12), tolerance=1e-9)
    np.testing.assert_allclose(x, 1, atol=1e-4)
    assert steps < 350  # SciPy's L-BFGS-B takes 282
    with pytest.warns(UserWarning, match="after 3 steps"):
        lbfgs(valley, np.zeros(12), limit=3)


@pytest.mark.parametrize(
    "change, culprit",
    [
        ({"x": np.array([[1.0, np.nan], [2, 2]])}, "features_train must be finite, but row 0"),
        ({"x": np.zeros((0, 2))}, r"features_train has shape \(0, 2\): it must be \(N, E\) and not empty"),
        ({"x": np.zeros((2, 3))}, r"features_test has shape \(2, 2\), but features_train is \(2, 3\)"),
        ({"y": [0]}, "labels_train must hold one integer for each of the 2 rows"),
        ({"y": [1, 1]}, "at least two classes"),
        ({"l2": 0}, "l2 must be positive"),
        ({"l2": []}, "l2 must be positive"),
        ({"l2": "1"}, "l2 must be positive"),
        ({"l2": [1.0, np.inf]}, "l2 must be positive"),
        ({"y": [0.0, 1.0]}, "labels_train must hold one integer"),
        ({"y": [[0], [1, 2]]}, "labels_train must hold one integer"),
        ({"x": np.array([[0, 1e200], [1, 0]])}, "numbers beyond 1e100"),
        ({"x": [[0.0, 1], [1, 0]]}, "features_train is of type list"),
    ],
)
def test_bad_input_is_named(change, culprit):
    x = np.array([[0.0, 1], [1, 0]])
    case = {"x": x, "y": [0, 1], "l2": 1e-2, **change}
    with pytest.raises(ValueError, match=culprit):
        linear_probe(case["x"], case["y"], x, [0, 1], case["l2"])
